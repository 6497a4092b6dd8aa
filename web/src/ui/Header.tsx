/** Above the conversation: which model, how full its context is, and what can be opened. */

import { t } from "../i18n";
import type { ModelCard } from "../api/models";
import { navOpen } from "../state/layout";
import { view, VIEWS } from "../state/place";
import { chooseModel, chosenModel, current, glassTurn, models, panel, shownTurns, type Panel } from "../state/store";
import { titleOf } from "../state/tree";
import { Icon, type IconName } from "./icons";

export function Header() {
  const chat = view.value === "chat";
  return (
    <header class="header">
      <button
        type="button"
        class="icon-button"
        aria-label={t(navOpen.value ? "nav.close" : "nav.open")}
        aria-expanded={navOpen.value}
        aria-controls="sidebar"
        onClick={() => (navOpen.value = !navOpen.value)}
      >
        <Icon name="menu" />
      </button>
      <h1 class="visually-hidden" tabIndex={-1}>
        {chat ? titleOf(current.value) || t("nav.untitled") : t(VIEWS[view.value])}
      </h1>
      {chat && <ModelPicker />}
      <span class="spacer" />
      {chat && <Meter />}
      {chat && <Opener which="glass" icon="glass" name={t("turn.glass")} act={toggleGlass} disabled={!lastAnswer()} />}
      <Opener which="settings" icon="sliders" name={t("settings.open")} act={() => toggle("settings")} />
    </header>
  );
}

interface OpenerProps {
  which: Panel;
  icon: IconName;
  name: string;
  act: () => void;
  disabled?: boolean;
}

function Opener({ which, icon, name, act, disabled = false }: OpenerProps) {
  return (
    <button
      type="button"
      class="icon-button"
      id={`open-${which}`}
      aria-label={name}
      title={name}
      aria-expanded={panel.value === which}
      disabled={disabled}
      onClick={act}
    >
      <Icon name={icon} />
    </button>
  );
}

export function toggle(which: Panel): void {
  panel.value = panel.value === which ? "none" : which;
}

function lastAnswer(): string | undefined {
  return shownTurns.value.findLast((turn) => turn.answer)?.id;
}

function toggleGlass(): void {
  if (panel.value !== "glass") glassTurn.value = lastAnswer() ?? null;
  toggle("glass");
}

function named(card: ModelCard): string {
  return card.parent ? t("model.adapter", { name: card.id, parent: card.parent }) : card.id;
}

function ModelPicker() {
  const chosen = chosenModel.value;
  if (!chosen) return <span class="quiet">{t("model.none")}</span>;
  return (
    <label class="model-picker">
      <span class="visually-hidden">{t("model.label")}</span>
      <select value={chosen.id} onChange={(event) => chooseModel(event.currentTarget.value)}>
        {models.value.map((card) => (
          <option key={card.id} value={card.id} disabled={!card.generates}>
            {named(card)}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Tokens of the shown conversation, as its last answer's usage counted them. */
function Meter() {
  const usage = shownTurns.value.findLast((turn) => turn.answer?.usage)?.answer?.usage;
  const total = chosenModel.value?.context;
  if (!usage || !total) return null;
  const used = Math.min(usage.prompt + usage.completion, total);
  return (
    <span class="meter" title={t("model.context-label")}>
      <meter min={0} max={total} value={used} high={total * 0.8} aria-label={t("model.context-label")} />
      <span class="meter-text">{t("model.context", { used, total })}</span>
    </span>
  );
}
