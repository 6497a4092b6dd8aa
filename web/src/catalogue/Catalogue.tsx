/** Which open models there are: found, looked at with their sources, and put side by side. */

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { listCatalogue, type Listed } from "../api/catalogue";
import { t } from "../i18n";
import { addressOf, entryAddress, place, TREE } from "../state/place";
import { Comparing } from "./Comparing";
import { EntryView } from "./EntryView";
import { Fetched } from "./Fetched";
import { ANYTHING, chosen, MOST, type Wanted } from "./filters";
import { Filters } from "./Filters";
import { List } from "./List";
import { Picture } from "./Picture";
import "./catalogue.css";

// While the page lives, what was looked for and picked is there again when somebody comes back from another view.
const wanted = signal<Wanted>(ANYTHING);
const picked = signal<readonly string[]>([]);

export function Catalogue(): JSX.Element {
  return (
    <div class="cat">
      <Fetched of="" load={listCatalogue}>
        {(listed) => <Loaded listed={listed} />}
      </Fetched>
    </div>
  );
}

function Loaded({ listed }: { listed: Listed }): JSX.Element {
  const where = place.value;
  if ("tree" in where) return <Picture path="v1/catalogue/evolution.svg" name={t("catalogue.tree")} withBack />;
  if ("names" in where && where.names.length > 1) return <Comparing names={where.names} />;
  if ("names" in where && where.names[0] !== undefined) return <EntryView name={where.names[0]} />;
  return <Search listed={listed} />;
}

function Search({ listed }: { listed: Listed }): JSX.Element {
  const picks = picked.value;
  const enough = picks.length > 1;
  const pick = (id: string, on: boolean): void => {
    picked.value = on ? [...picks, id].slice(0, MOST) : picks.filter((one) => one !== id);
  };
  const rows = chosen(listed.rows, wanted.value);
  return (
    <>
      <Filters listed={listed} wanted={wanted.value} change={(next) => (wanted.value = { ...wanted.value, ...next })} />
      <div class="cat-bar">
        <p role="status">{t("catalogue.found", { n: rows.length })}</p>
        <span class="spacer" />
        <a href={addressOf(TREE)}>{t("catalogue.tree")}</a>
        <a role="link" aria-disabled={!enough} href={enough ? entryAddress(...picks) : undefined}>
          {t("catalogue.compare", { n: picks.length })}
        </a>
      </div>
      <List rows={rows} picked={picks} pick={pick} />
    </>
  );
}
