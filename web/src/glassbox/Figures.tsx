import type { JSX } from "preact";
import { decimal, t } from "../i18n";
import { decodeRate, promptRate, type AnswerRecord } from "./record";

/** How long it took, and what the prefix cache saved. */
export function Figures({ record }: { record: AnswerRecord }): JSX.Element {
  const { timings, prompt, firstMs, seed } = record;
  const read = timings?.prompt_n;
  const reused = timings?.cache_n ?? record.cached;
  const rate = timings && decodeRate(timings);
  const reading = timings && promptRate(timings);
  return (
    <section class="gb-section" aria-label={t("glassbox.figures")}>
      <dl class="gb-figures">
        <Figure
          name={t("glassbox.first")}
          value={firstMs === undefined ? undefined : milliseconds(firstMs)}
          id="first"
        />
        <Figure
          name={t("glassbox.rate")}
          value={rate === undefined ? undefined : t("glassbox.per-second", { n: figure(rate) })}
          id="rate"
        />
        <Figure
          name={t("glassbox.read")}
          value={read === undefined ? undefined : t("glassbox.tokens", { n: read })}
          note={reading === undefined ? undefined : t("glassbox.per-second", { n: figure(reading) })}
          id="read"
        />
        <Figure
          name={t("glassbox.cached")}
          value={reused === undefined ? undefined : t("glassbox.tokens", { n: reused })}
          id="cached"
        />
        <Figure
          name={t("glassbox.seed")}
          value={seed === undefined || seed === null ? undefined : String(seed)}
          id="seed"
        />
      </dl>
      {prompt && reused !== undefined && reused > 0 && (
        <span class="gb-meter" aria-hidden="true">
          <span style={{ width: `${(reused / prompt.tokens.length) * 100}%` }} />
        </span>
      )}
    </section>
  );
}

interface FigureProps {
  id: string;
  name: string;
  value: string | undefined;
  note?: string | undefined;
}

function Figure({ id, name, value, note }: FigureProps): JSX.Element {
  return (
    <div data-figure={id}>
      <dt>{name}</dt>
      <dd>
        {value ?? "–"}
        {note && <small>{note}</small>}
      </dd>
    </div>
  );
}

function milliseconds(ms: number): string {
  return ms < 1000 ? t("glassbox.ms", { n: decimal(ms, 0) }) : t("glassbox.s", { n: decimal(ms / 1000, 2) });
}

function figure(rate: number): string {
  return decimal(rate, rate < 100 ? 1 : 0);
}
