import type { JSX } from "preact";
import { t } from "../i18n";
import { figureRows, settingRows, type Row } from "./differences";
import type { Run } from "./run";
import { words, type Run as WordRun } from "./words";

export interface DifferencesProps {
  runs: readonly [Run, Run];
  models: readonly [string, string];
  marked: [WordRun[], WordRun[]] | undefined;
}

/** What was different about the two: settings, figures, and where the texts part. */
export function Differences({ runs: [left, right], models, marked }: DifferencesProps): JSX.Element | null {
  if (left.state === "idle" && right.state === "idle") return null;
  const settings = settingRows(left.record, right.record);
  const model = models[0] === models[1] ? [] : [{ name: t("compare.model"), left: models[0], right: models[1] }];
  const known = left.record.settings && right.record.settings;
  return (
    <div class="cmp-differences">
      <h2>{t("compare.differences")}</h2>
      {marked && (
        <p class="cmp-parting" role="status">
          {parting(marked)}
        </p>
      )}
      {known && settings.length === 0 && <p>{t("compare.differences-none")}</p>}
      <div class="cmp-table" tabIndex={0} role="region" aria-label={t("compare.differences")}>
        <table>
          <thead>
            <tr>
              <th scope="col">{t("compare.setting")}</th>
              <th scope="col">{t("compare.left")}</th>
              <th scope="col">{t("compare.right")}</th>
            </tr>
          </thead>
          <tbody>
            {[...model, ...settings, ...figureRows(left.record, right.record)].map((row) => (
              <Line key={row.name} {...row} />
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}

function Line({ name, left, right }: Row): JSX.Element {
  return (
    <tr>
      <th scope="row">{name}</th>
      <td>{left}</td>
      <td>{right}</td>
    </tr>
  );
}

function parting([left, right]: [WordRun[], WordRun[]]): string {
  if ([...left, ...right].every((run) => run.same)) return t("compare.same");
  const first = left[0] ?? right[0];
  const shared =
    first?.same && left[0]?.same && right[0]?.same
      ? words(first.text).filter((word) => /\p{L}|\p{N}/u.test(word)).length
      : 0;
  return shared > 0 ? t("compare.parts", { n: shared }) : t("compare.parts-at-once");
}
