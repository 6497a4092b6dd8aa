import type { JSX } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";
import { language, percent, t, type Key } from "../i18n";
import { likelihood, type AnswerRecord, type Prompt, type PromptToken, type WrittenToken } from "./record";
import { Figures } from "./Figures";
import { SettingsTable } from "./SettingsTable";
import { TokenDetail } from "./TokenDetail";
import { TokenList, type Chip } from "./TokenList";
import { visible } from "./visible";
import "./glassbox.css";

export interface GlassBoxProps {
  record: AnswerRecord | undefined;
  /** What is shown belongs to this; when it changes, the choice of a token is forgotten. */
  name: string;
}

/** The inside of one answer: its tokens and how each was chosen, the prompt as the model read it, settings, timings. */
export function GlassBox({ record, name }: GlassBoxProps): JSX.Element {
  if (!record || (!record.prompt && record.tokens.length === 0)) {
    return <p class="gb-empty">{t("glassbox.empty")}</p>;
  }
  return (
    <div class="gb" key={name}>
      <Figures record={record} />
      <Written tokens={record.tokens} />
      {record.prompt && <Read prompt={record.prompt} />}
      {record.settings && <SettingsTable settings={record.settings} />}
    </div>
  );
}

function Written({ tokens }: { tokens: WrittenToken[] }): JSX.Element {
  const [active, setActive] = useState<number>();
  const chip = useChip(writtenChip);
  const token = active === undefined ? undefined : tokens[active];
  return (
    <section class="gb-section">
      <h3>{t("glassbox.written", { n: tokens.length })}</h3>
      {tokens.length === 0 ? (
        <p>{t("glassbox.waiting")}</p>
      ) : (
        <>
          <Legend />
          <div class="gb-scroll">
            <TokenList
              label={t("glassbox.written-label")}
              tokens={tokens}
              chip={chip}
              active={active}
              onActive={setActive}
            />
          </div>
          {token && active !== undefined ? (
            <TokenDetail token={token} index={active} />
          ) : (
            <p class="gb-hint">{t("glassbox.pick")}</p>
          )}
        </>
      )}
    </section>
  );
}

/** A new function whenever the language changes, for labels are drawn by it. */
function useChip<T>(make: (token: T, index: number) => Chip): (token: T, index: number) => Chip {
  const current = language();
  return useCallback(make, [make, current]);
}

function writtenChip(token: WrittenToken): Chip {
  const p = Math.exp(token.logprob);
  const label = t("glassbox.written-chip", { text: visible(token.text), p: percent(p) });
  return { kind: `gb-p${likelihood(p)}`, label, share: p };
}

const CLASSES: Key[] = [
  "glassbox.likely.0",
  "glassbox.likely.1",
  "glassbox.likely.2",
  "glassbox.likely.3",
  "glassbox.likely.4",
];

function Legend(): JSX.Element {
  return (
    <p class="gb-legend">
      <span>{t("glassbox.legend")}</span>
      {CLASSES.map((key, place) => (
        <span key={key} class={`gb-chip gb-p${place}`}>
          {t(key)}
        </span>
      ))}
    </p>
  );
}

function Read({ prompt }: { prompt: Prompt }): JSX.Element {
  const [active, setActive] = useState<number>();
  const [hovered, setHovered] = useState<number>();
  useEffect(() => {
    setActive(undefined);
    setHovered(undefined);
  }, [prompt]);
  const { cached } = prompt;
  const current = language();
  const chip = useCallback((token: PromptToken, index: number) => promptChip(token, index, cached), [cached, current]);
  const seen = hovered ?? active;
  const onPointerOver = (event: Event): void => {
    const index = (event.target as HTMLElement).closest<HTMLElement>("[data-index]")?.dataset["index"];
    setHovered(index === undefined ? undefined : Number(index));
  };
  return (
    <section class="gb-section">
      <h3>{t("glassbox.prompt", { n: prompt.tokens.length })}</h3>
      <p>{cached > 0 ? t("glassbox.reused", { n: cached }) : t("glassbox.none-reused")}</p>
      <div class="gb-scroll" onPointerOver={onPointerOver} onPointerLeave={() => setHovered(undefined)}>
        <TokenList
          label={t("glassbox.prompt-label")}
          tokens={prompt.tokens}
          chip={chip}
          active={active}
          onActive={setActive}
        />
      </div>
      <p class="gb-hint" aria-live="polite">
        {seen !== undefined && prompt.tokens[seen]
          ? promptChip(prompt.tokens[seen], seen, cached).label
          : t("glassbox.point")}
      </p>
      <details class="gb-rendered">
        <summary>{t("glassbox.rendered")}</summary>
        <pre tabIndex={0} dir="auto">
          {prompt.text}
        </pre>
      </details>
    </section>
  );
}

/** How many tints neighbouring tokens of a prompt take in turn. */
const TINTS = 4;

function promptChip(token: PromptToken, index: number, cached: number): Chip {
  const kept = index < cached;
  const notes = [
    t("glassbox.prompt-chip", { n: index + 1, text: visible(token.text), id: String(token.id) }),
    token.special && t("glassbox.special"),
    kept && t("glassbox.from-cache"),
  ];
  const kind = [`gb-tint${index % TINTS}`, token.special && "gb-special", kept && "gb-kept"];
  return { kind: kind.filter(Boolean).join(" "), label: notes.filter(Boolean).join(", ") };
}
