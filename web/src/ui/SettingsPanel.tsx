/** The settings of the conversation, where one is shown, and of the page. */

import { useEffect, useState } from "preact/hooks";
import { session } from "../api/session";
import { t, LanguagePicker, type Key } from "../i18n";
import { theme, type Theme } from "../state/preferences";
import { view } from "../state/place";
import { change, chosenModel, current } from "../state/store";
import { SamplingFields } from "./SamplingFields";

export function SettingsPanel() {
  return (
    <>
      {view.value === "chat" && <Conversation />}
      <Page />
    </>
  );
}

function Conversation() {
  const { id, system, sampling } = current.value;
  const card = chosenModel.value;
  const text = card?.chat === false;
  return (
    <>
      <section aria-labelledby="settings-conversation">
        <h3 id="settings-conversation">{t("settings.conversation")}</h3>
        <label class="field">
          <span>{t("settings.system")}</span>
          <textarea
            rows={4}
            dir="auto"
            value={system}
            disabled={text}
            aria-describedby="system-hint"
            onInput={(event) => {
              const now = event.currentTarget.value;
              change(id, (before) => ({ ...before, system: now }));
            }}
          />
          <small id="system-hint">{t(text ? "settings.system-unused" : "settings.system-hint")}</small>
        </label>
      </section>
      <section aria-labelledby="settings-sampling">
        <h3 id="settings-sampling">{t("settings.sampling")}</h3>
        <p class="quiet">{t("settings.sampling-hint")}</p>
        <SamplingFields
          key={id}
          card={card}
          value={sampling}
          onChange={(next) => change(id, (before) => ({ ...before, sampling: next }))}
        />
      </section>
    </>
  );
}

const THEMES: readonly [Theme, Key][] = [
  ["auto", "settings.theme-auto"],
  ["light", "settings.theme-light"],
  ["dark", "settings.theme-dark"],
];

function Page() {
  return (
    <section aria-labelledby="settings-page">
      <h3 id="settings-page">{t("settings.page")}</h3>
      <fieldset class="choices">
        <legend>{t("settings.theme")}</legend>
        {THEMES.map(([value, key]) => (
          <label key={value}>
            <input
              type="radio"
              name="theme"
              value={value}
              checked={theme.value === value}
              onChange={() => (theme.value = value)}
            />
            <span>{t(key)}</span>
          </label>
        ))}
      </fieldset>
      <LanguagePicker />
      <h4>{t("settings.keyboard")}</h4>
      <p class="quiet">{t("chat.keys")}</p>
      <SignedIn />
      <p class="quiet">
        <a href="assets/LICENCES.txt" target="_blank" rel="noopener">
          {t("settings.licences")}
        </a>
      </p>
    </section>
  );
}

/** Who a server with keys takes this browser for, and the way out. */
function SignedIn() {
  const [name, setName] = useState<string | null>(null);
  useEffect(() => {
    session().then(setName, () => undefined); // the next answer will say what is wrong
  }, []);
  if (name === null) return null;
  return (
    <form method="post" action="logout" class="row">
      <span class="quiet">{t("settings.signed-in", { name })}</span>
      <button type="submit" class="small">
        {t("settings.sign-out")}
      </button>
    </form>
  );
}
