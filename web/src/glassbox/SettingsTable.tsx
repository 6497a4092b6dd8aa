import type { JSX } from "preact";
import { decimal, t, type Key } from "../i18n";
import type { Setting } from "./record";

const ORIGINS: Record<string, Key> = {
  request: "glassbox.origin.request",
  model: "glassbox.origin.model",
  default: "glassbox.origin.default",
};

/** Every setting as it was in force, and who set it; those that nobody touched are folded away. */
export function SettingsTable({ settings }: { settings: Record<string, Setting> }): JSX.Element {
  const rows = Object.entries(settings);
  const set = rows.filter(([, { origin }]) => origin !== "default");
  const untouched = rows.filter(([, { origin }]) => origin === "default");
  return (
    <section class="gb-section">
      <h3>{t("glassbox.settings")}</h3>
      {set.length > 0 ? <Rows rows={set} name={t("glassbox.settings")} /> : <p>{t("glassbox.none-set")}</p>}
      {untouched.length > 0 && (
        <details>
          <summary>{t("glassbox.untouched", { n: untouched.length })}</summary>
          <Rows rows={untouched} name={t("glassbox.untouched", { n: untouched.length })} />
        </details>
      )}
    </section>
  );
}

function Rows({ rows, name }: { rows: [string, Setting][]; name: string }): JSX.Element {
  return (
    <table class="gb-settings" aria-label={name}>
      <thead>
        <tr>
          <th scope="col">{t("glassbox.column.setting")}</th>
          <th scope="col">{t("glassbox.column.value")}</th>
          <th scope="col">{t("glassbox.column.origin")}</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(([name, { value, origin }]) => (
          <tr key={name} class={`gb-from-${origin}`} data-setting={name}>
            <th scope="row">
              <code>{name}</code>
            </th>
            <td>{shown(value)}</td>
            <td>{ORIGINS[origin] ? t(ORIGINS[origin]) : origin}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** A setting's value as a person reads it; whatever has no plain form is shown as JSON. */
export function shown(value: unknown): string {
  if (value === null || value === undefined || (Array.isArray(value) && value.length === 0)) return "–";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : decimal(value, 6);
  if (typeof value === "string") return value;
  const text = JSON.stringify(value);
  return text === "{}" ? "–" : text;
}
