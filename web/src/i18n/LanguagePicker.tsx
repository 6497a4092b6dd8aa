import type { JSX, TargetedEvent } from "preact";
import { language, LANGUAGES, NAMES, setLanguage } from "./language";
import { t } from "./translate";

/** Chooses the language; each is named in itself. */
export function LanguagePicker(): JSX.Element {
  const pick = (event: TargetedEvent<HTMLSelectElement>): void => {
    const found = LANGUAGES.find((one) => one === event.currentTarget.value);
    if (found) setLanguage(found);
  };
  return (
    <label class="field">
      <span>{t("settings.language")}</span>
      <select value={language()} onChange={pick}>
        {LANGUAGES.map((one) => (
          <option key={one} value={one} lang={one}>
            {NAMES[one]}
          </option>
        ))}
      </select>
    </label>
  );
}
