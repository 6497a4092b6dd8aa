import type { JSX } from "preact";
import type { Row } from "../api/catalogue";
import { decimal, t } from "../i18n";
import { entryAddress } from "../state/place";
import { count, MOST } from "./filters";

interface ListProps {
  rows: readonly Row[];
  picked: readonly string[];
  pick: (id: string, on: boolean) => void;
}

export function List({ rows, picked, pick }: ListProps): JSX.Element {
  return (
    <div class="cat-scroll" tabIndex={0} role="region" aria-label={t("nav.catalogue")}>
      <table class="cat-list">
        <thead>
          <tr>
            <th scope="col">
              <span class="visually-hidden">{t("catalogue.pick")}</span>
            </th>
            <th scope="col">{t("catalogue.name")}</th>
            <th scope="col">{t("catalogue.from")}</th>
            <th scope="col">{t("catalogue.released")}</th>
            <th scope="col">{t("catalogue.sizes")}</th>
            <th scope="col">{t("catalogue.context")}</th>
            <th scope="col">{t("catalogue.licence")}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <Line key={row.id} row={row} picked={picked.includes(row.id)} full={picked.length >= MOST} pick={pick} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

interface LineProps {
  row: Row;
  picked: boolean;
  full: boolean;
  pick: (id: string, on: boolean) => void;
}

function Line({ row, picked, full, pick }: LineProps): JSX.Element {
  return (
    <tr>
      <td>
        <input
          type="checkbox"
          aria-label={t("catalogue.pick-one", { name: row.name })}
          checked={picked}
          disabled={full && !picked}
          onChange={(event) => pick(row.id, event.currentTarget.checked)}
        />
      </td>
      <th scope="row">
        <a class="cat-link" href={entryAddress(row.id)}>
          {row.name}
        </a>
        <span class="cat-about">{row.about}</span>
      </th>
      <td>{row.organisation}</td>
      <td class="cat-number">{row.released ?? ""}</td>
      <td>
        <span class="cat-sizes">
          {row.sizes.map((size) => (
            <a key={size.id} class="cat-size" href={entryAddress(size.id)}>
              {size.parameters === null ? (size.stated ?? size.name) : count(size.parameters)}
            </a>
          ))}
        </span>
      </td>
      <td class="cat-number">{row.context === null ? "" : decimal(row.context)}</td>
      <td>
        {row.licence}
        {row.licence && <span class="cat-use">{t(use(row.commercial))}</span>}
      </td>
    </tr>
  );
}

export function use(commercial: boolean | null): "catalogue.use-yes" | "catalogue.use-no" | "catalogue.use-unknown" {
  if (commercial === null) return "catalogue.use-unknown";
  return commercial ? "catalogue.use-yes" : "catalogue.use-no";
}
