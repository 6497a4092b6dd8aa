/** Sampling settings to fill in. What is left empty shows what holds instead, and whose it is. */

import { useId, useState } from "preact/hooks";
import { t, type Key } from "../i18n";
import type { ModelCard, Setting } from "../api/models";
import { FIELDS, MAX_STOPS, numberOf, shownStops, stopsOf, type Field, type Sampling } from "../state/sampling";

export interface SamplingFieldsProps {
  card: ModelCard | null;
  value: Sampling;
  onChange: (value: Sampling) => void;
}

export function SamplingFields({ card, value, onChange }: SamplingFieldsProps) {
  const [resets, setResets] = useState(0);
  const reset = (): void => {
    onChange({});
    setResets(resets + 1); // the fields are made anew, empty
  };
  const set = Object.keys(value).length > 0;
  return (
    <div class="sampling" key={resets}>
      {FIELDS.map((field) => (
        <NumberField key={field.name} field={field} setting={card?.settings[field.resolved]} value={value} onChange={onChange} />
      ))}
      <StopField value={value} onChange={onChange} />
      <button type="button" class="small" disabled={!set} onClick={reset}>
        {t("settings.reset")}
      </button>
    </div>
  );
}

/** What holds where a field is empty. */
function resolved(field: Field, setting: Setting | undefined): string {
  if (!setting) return t("settings.unknown");
  if (setting.value === null) return t(field.name === "seed" ? "settings.from-random" : "settings.fits");
  const value = String(setting.value);
  if (setting.from === "model") return t("settings.from-model", { value });
  if (setting.from === "default") return t("settings.from-default", { value });
  return setting.from ? t("settings.from-other", { value, origin: setting.from }) : value;
}

interface NumberFieldProps {
  field: Field;
  setting: Setting | undefined;
  value: Sampling;
  onChange: (value: Sampling) => void;
}

function NumberField({ field, setting, value, onChange }: NumberFieldProps) {
  const hint = useId();
  const now = value[field.name];
  const [typed, setTyped] = useState(now === undefined ? "" : String(now));
  const wrong = numberOf(field, typed) === null;
  const bounds = { min: field.min, max: field.max };
  const take = (text: string): void => {
    setTyped(text);
    const found = numberOf(field, text);
    if (found === null) return; // what was valid last holds, and the field says so
    const { [field.name]: _, ...rest } = value;
    onChange(found === undefined ? rest : { ...rest, [field.name]: found });
  };
  return (
    <label class="field number">
      <span>{t(`settings.${field.name}`)}</span>
      <input
        inputMode={field.whole ? "numeric" : "decimal"}
        autocomplete="off"
        value={typed}
        placeholder={resolved(field, setting)}
        aria-describedby={hint}
        aria-invalid={wrong}
        onInput={(event) => take(event.currentTarget.value)}
        onBlur={() => wrong && take(now === undefined ? "" : String(now))}
      />
      <small id={hint} class={wrong ? "wrong" : ""}>
        {wrong ? t(field.whole ? "settings.bounds-whole" : "settings.bounds", bounds) : t(`settings.${field.name}-hint` as Key)}
      </small>
    </label>
  );
}

function StopField({ value, onChange }: { value: Sampling; onChange: (value: Sampling) => void }) {
  const hint = useId();
  const [typed, setTyped] = useState(shownStops(value.stop ?? []));
  const take = (text: string): void => {
    setTyped(text);
    const { stop: _, ...rest } = value;
    const stop = stopsOf(text);
    if (stop.length <= MAX_STOPS) onChange(stop.length ? { ...rest, stop } : rest);
  };
  return (
    <label class="field">
      <span>{t("settings.stop")}</span>
      <textarea
        rows={2}
        spellcheck={false}
        value={typed}
        aria-describedby={hint}
        aria-invalid={stopsOf(typed).length > MAX_STOPS}
        onInput={(event) => take(event.currentTarget.value)}
      />
      <small id={hint}>{t("settings.stop-hint")}</small>
    </label>
  );
}
