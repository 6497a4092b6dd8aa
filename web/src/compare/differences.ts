/** What differs between two runs beside their texts: settings in force, and figures. */

import { decodeRate, promptRate, type AnswerRecord } from "../glassbox/record";
import { shown } from "../glassbox/SettingsTable";
import { decimal, t } from "../i18n";

export interface Row {
  name: string;
  left: string;
  right: string;
}

/** Settings whose values differ. A side that has not run yet differs in nothing. */
export function settingRows(left: AnswerRecord, right: AnswerRecord): Row[] {
  if (!left.settings || !right.settings) return [];
  const names = new Set([...Object.keys(left.settings), ...Object.keys(right.settings)]);
  const rows = Array.from(names, (name) => ({
    name,
    left: shown(left.settings?.[name]?.value),
    right: shown(right.settings?.[name]?.value),
  }));
  return rows.filter((row) => row.left !== row.right);
}

/** Figures of both sides, whether they differ or not. */
export function figureRows(left: AnswerRecord, right: AnswerRecord): Row[] {
  const row = (name: string, of: (record: AnswerRecord) => string | undefined): Row => ({
    name,
    left: of(left) ?? "–",
    right: of(right) ?? "–",
  });
  return [
    row(t("glassbox.first"), ({ firstMs }) =>
      firstMs === undefined ? undefined : t("glassbox.ms", { n: decimal(firstMs, 0) }),
    ),
    row(t("glassbox.rate"), ({ timings }) => perSecond(timings && decodeRate(timings))),
    row(t("compare.reading"), ({ timings }) => perSecond(timings && promptRate(timings))),
    row(t("compare.written"), ({ timings, tokens }) =>
      timings || tokens.length ? decimal(timings?.predicted_n ?? tokens.length) : undefined,
    ),
    row(t("glassbox.cached"), ({ cached }) => (cached === undefined ? undefined : t("glassbox.tokens", { n: cached }))),
    row(t("glassbox.seed"), ({ seed }) => (seed === undefined || seed === null ? undefined : String(seed))),
  ];
}

function perSecond(rate: number | undefined): string | undefined {
  return rate === undefined ? undefined : t("glassbox.per-second", { n: decimal(rate, rate < 100 ? 1 : 0) });
}
