import type { JSX } from "preact";
import type { ModelCard } from "../api/models";
import { t, type Key } from "../i18n";
import type { Sampling } from "../state/sampling";
import { shown } from "../glassbox/SettingsTable";
import { RefusalBox } from "../ui/refusals";
import { SamplingFields } from "../ui/SamplingFields";
import type { Run, State } from "./run";
import type { Run as WordRun } from "./words";

export interface ColumnProps {
  place: 0 | 1;
  models: readonly ModelCard[];
  card: ModelCard | undefined;
  sampling: Sampling;
  run: Run;
  marked: WordRun[] | undefined;
  onModel: (model: string) => void;
  onSampling: (sampling: Sampling) => void;
  onStop: () => void;
}

const STATES: Record<State, Key> = {
  idle: "compare.none",
  running: "compare.running",
  done: "compare.done",
  length: "compare.length",
  stopped: "compare.stopped",
  failed: "compare.failed",
};

/** One side: who answers, with what settings, and the answer. */
export function Column(props: ColumnProps): JSX.Element {
  const { place, models, card, sampling, run, marked, onModel, onSampling, onStop } = props;
  const side = t(place === 0 ? "compare.left" : "compare.right");
  const running = run.state === "running";
  return (
    <section class="cmp-side" aria-label={side} data-side={place}>
      <h2>{side}</h2>
      <label class="cmp-model">
        {t("compare.model")}
        <select value={card?.id ?? ""} disabled={running} onChange={(event) => onModel(event.currentTarget.value)}>
          {models.map((one) => (
            <option key={one.id} value={one.id}>
              {one.id}
            </option>
          ))}
        </select>
      </label>
      <details class="cmp-settings">
        <summary>
          {t("settings.sampling")} <Chosen sampling={sampling} />
        </summary>
        <SamplingFields card={card ?? null} value={sampling} onChange={onSampling} />
      </details>
      <div class="cmp-head">
        <h3>{t("compare.answer")}</h3>
        <p class="cmp-state" role="status">
          {t(STATES[run.state])}
        </p>
        {running && (
          <button type="button" onClick={onStop} aria-label={t("compare.stop-side", { side })}>
            {t("compare.stop")}
          </button>
        )}
      </div>
      {run.told && <RefusalBox told={run.told} />}
      <div
        class="cmp-text"
        dir="auto"
        aria-busy={running}
        tabIndex={0}
        role="region"
        aria-label={`${side}: ${t("compare.answer")}`}
      >
        {marked?.some((part) => part.same) // where nothing is shared, marks would only be in the way
          ? marked.map((part, index) => (part.same ? part.text : <mark key={index}>{part.text}</mark>))
          : run.text}
      </div>
    </section>
  );
}

/** What was set by hand, in a line; the fields unfold below it. */
function Chosen({ sampling }: { sampling: Sampling }): JSX.Element {
  const set = Object.entries(sampling).map(([name, value]) => `${name} ${shown(value)}`);
  return <span class="cmp-set">{set.length ? set.join(" · ") : t("compare.unset")}</span>;
}
