import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ModelCard } from "../api/models";
import { t } from "../i18n";
import type { Sampling } from "../state/sampling";
import { cards, readCard } from "../state/store";
import { answer, NOTHING, type Run } from "./run";
import { Column } from "./Column";
import { Differences } from "./Differences";
import { parted, type Run as WordRun } from "./words";
import "./compare.css";

/** model: its name; empty until somebody chose one. */
interface Side {
  model: string;
  sampling: Sampling;
}

const UNTOUCHED: Side = { model: "", sampling: {} };

type Pair<T> = readonly [T, T];

function replaced<T>(pair: Pair<T>, place: 0 | 1, value: T): Pair<T> {
  return place === 0 ? [value, pair[1]] : [pair[0], value];
}

export interface CompareProps {
  /** Those that write. */
  models: readonly ModelCard[];
}

/** Two models, or one with different settings, on the same prompt. */
export function Compare({ models }: CompareProps): JSX.Element {
  const [prompt, setPrompt] = useState("");
  const [sides, setSides] = useState<Pair<Side>>([UNTOUCHED, UNTOUCHED]);
  const [runs, setRuns] = useState<Pair<Run>>([NOTHING, NOTHING]);
  const stops = useRef<[AbortController?, AbortController?]>([]);
  const stop = (place: 0 | 1): void => stops.current[place]?.abort();
  const stopBoth = (): void => {
    stop(0);
    stop(1);
  };
  useEffect(() => stopBoth, []);
  const chosen = [cardFor(models, 0, sides[0].model), cardFor(models, 1, sides[1].model)] as const;
  const names = [chosen[0]?.id ?? "", chosen[1]?.id ?? ""] as const;
  useEffect(() => {
    // Without its settings a model can be asked all the same; the fields then show no resolved values.
    for (const name of new Set(names)) if (name) readCard(name).catch(() => undefined);
  }, names);
  const running = runs.some((run) => run.state === "running");
  const marked = useMarked(runs);
  const start = (place: 0 | 1): void => {
    const card = chosen[place];
    if (!card) return;
    stop(place);
    const controller = new AbortController();
    stops.current[place] = controller;
    const report = (run: Run): void => {
      if (stops.current[place] === controller) setRuns((before) => replaced(before, place, run));
    };
    void answer({ prompt, card, sampling: sides[place].sampling }, controller.signal, report);
  };
  const onSubmit = (event: Event): void => {
    event.preventDefault();
    if (running || prompt.trim() === "") return;
    start(0);
    start(1);
  };
  return (
    <div class="cmp">
      <form class="cmp-ask" onSubmit={onSubmit}>
        <p>{t("compare.about")}</p>
        <label for="cmp-prompt">{t("compare.prompt")}</label>
        <textarea
          id="cmp-prompt"
          rows={3}
          value={prompt}
          onInput={(event) => setPrompt(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey && !event.isComposing) onSubmit(event);
          }}
        />
        <div class="cmp-acts">
          <button type="submit" class="primary" disabled={running || prompt.trim() === ""}>
            {t("compare.run")}
          </button>
          {running && (
            <button type="button" onClick={stopBoth}>
              {t("compare.stop-both")}
            </button>
          )}
        </div>
      </form>
      <div class="cmp-sides">
        {([0, 1] as const).map((place) => (
          <Column
            key={place}
            place={place}
            models={models}
            card={chosen[place]}
            sampling={sides[place].sampling}
            run={runs[place]}
            marked={marked?.[place]}
            onModel={(model) => setSides((before) => replaced(before, place, { ...before[place], model }))}
            onSampling={(sampling) => setSides((before) => replaced(before, place, { ...before[place], sampling }))}
            onStop={() => stop(place)}
          />
        ))}
      </div>
      <Differences runs={runs} models={names} marked={marked} />
    </div>
  );
}

/** The model of a side: the chosen one, else the list's first for the left side and its second for the right. */
function cardFor(models: readonly ModelCard[], place: number, name: string): ModelCard | undefined {
  const card = models.find((one) => one.id === name) ?? models[place] ?? models[0];
  return card && (cards.value.get(card.id) ?? card);
}

/** Both texts cut where they differ, once both have ended: before that everything not yet written would count. */
function useMarked(runs: Pair<Run>): [WordRun[], WordRun[]] | undefined {
  const [left, right] = runs;
  const ready = [left, right].every((run) => run.state !== "running" && run.text !== "");
  return useMemo(() => (ready ? parted(left.text, right.text) : undefined), [ready, left.text, right.text]);
}
