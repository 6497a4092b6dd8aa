/** What lies beside the conversation: settings, or the glass box. Over it where the screen is narrow. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { t } from "../i18n";
import { panel } from "../state/store";
import { Icon } from "./icons";
import { lazy } from "./lazy";
import { SettingsPanel } from "./SettingsPanel";

const GlassPanel = lazy(() => import("../glassbox/GlassPanel").then((found) => found.GlassPanel));

export function SidePanel() {
  if (panel.value === "settings") {
    return (
      <Frame key="settings" title={t("settings.title")}>
        <SettingsPanel />
      </Frame>
    );
  }
  if (panel.value === "glass") {
    return (
      <Frame key="glass" title={t("turn.glass")}>
        <GlassPanel />
      </Frame>
    );
  }
  return null;
}

export function closePanel(): void {
  const which = panel.value;
  panel.value = "none";
  // After the picture is drawn: what lay under the panel could not be focused.
  requestAnimationFrame(() => document.getElementById(`open-${which}`)?.focus());
}

function Frame({ title, children }: { title: string; children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  return (
    <aside class="panel" aria-labelledby="panel-title">
      <div class="panel-head">
        <h2 id="panel-title" ref={heading} tabIndex={-1}>
          {title}
        </h2>
        <button type="button" class="icon-button" aria-label={t("app.close")} onClick={closePanel}>
          <Icon name="close" />
        </button>
      </div>
      <div class="panel-body">{children}</div>
    </aside>
  );
}
