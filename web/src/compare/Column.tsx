import type { JSX, TargetedEvent } from "preact";
import type { ModelCard } from "../api/models";
import { t, type Key } from "../i18n";
import { FIELDS, numberOf, type Field, type Sampling } from "../state/sampling";
import { shown } from "../glassbox/SettingsTable";
import { RefusalBox } from "../ui/refusals";
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
      <div class="cmp-fields">
        {FIELDS.map((field) => (
          <NumberField
            key={field.name}
            field={field}
            card={card}
            sampling={sampling}
            disabled={running}
            onSampling={onSampling}
          />
        ))}
      </div>
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
        {marked
          ? marked.map((part, index) => (part.same ? part.text : <mark key={index}>{part.text}</mark>))
          : run.text}
      </div>
    </section>
  );
}

interface NumberFieldProps {
  field: Field;
  card: ModelCard | undefined;
  sampling: Sampling;
  disabled: boolean;
  onSampling: (sampling: Sampling) => void;
}

/** An empty field leaves the setting to the model; what would hold then stands in it in grey. */
function NumberField({ field, card, sampling, disabled, onSampling }: NumberFieldProps): JSX.Element {
  const value = sampling[field.name];
  const resolved = card?.settings[field.resolved]?.value;
  const onChange = (event: TargetedEvent<HTMLInputElement>): void => {
    const typed = numberOf(field, event.currentTarget.value);
    event.currentTarget.setCustomValidity(
      typed === null ? t("compare.bounds", { min: String(field.min), max: String(field.max) }) : "",
    );
    event.currentTarget.reportValidity();
    if (typed === null) return;
    const { [field.name]: _, ...rest } = sampling;
    onSampling(typed === undefined ? rest : { ...rest, [field.name]: typed });
  };
  return (
    <label>
      <code>{field.name}</code>
      <input
        type="text"
        inputMode={field.whole ? "numeric" : "decimal"}
        name={field.name}
        value={value ?? ""}
        placeholder={resolved === undefined || resolved === null ? t("compare.unset") : shown(resolved)}
        disabled={disabled}
        onChange={onChange}
      />
    </label>
  );
}
