/** Which open models there are: found, looked at with their sources, and put side by side. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { listCatalogue, type Listed } from "../api/catalogue";
import { t } from "../i18n";
import { Comparing } from "./Comparing";
import { EntryView } from "./EntryView";
import { Fetched } from "./Fetched";
import { ANYTHING, chosen, MOST, type Wanted } from "./filters";
import { Filters } from "./Filters";
import { List } from "./List";
import { Picture } from "./Picture";
import "./catalogue.css";

/** What is shown: the list, one entry, several side by side, or all of them as a tree. */
type Shown = { what: "list" } | { what: "entry"; name: string } | { what: "comparison" } | { what: "tree" };

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
  const [wanted, setWanted] = useState<Wanted>(ANYTHING);
  const [picked, setPicked] = useState<readonly string[]>([]);
  const [shown, setShown] = useState<Shown>({ what: "list" });
  const look = (name: string): void => setShown({ what: "entry", name });
  const toList = (): void => setShown({ what: "list" });
  const pick = (id: string, on: boolean): void =>
    setPicked((before) => (on ? [...before, id].slice(0, MOST) : before.filter((one) => one !== id)));
  if (shown.what === "entry") return <EntryView name={shown.name} look={look} back={toList} />;
  if (shown.what === "comparison") return <Comparing names={picked} back={toList} />;
  if (shown.what === "tree") return <Picture path="v1/catalogue/evolution.svg" name={t("catalogue.tree")} back={toList} />;
  const rows = chosen(listed.rows, wanted);
  return (
    <>
      <Filters listed={listed} wanted={wanted} change={(next) => setWanted({ ...wanted, ...next })} />
      <div class="cat-bar">
        <p role="status">{t("catalogue.found", { n: rows.length })}</p>
        <span class="spacer" />
        <button type="button" onClick={() => setShown({ what: "tree" })}>
          {t("catalogue.tree")}
        </button>
        <button type="button" disabled={picked.length < 2} onClick={() => setShown({ what: "comparison" })}>
          {t("catalogue.compare", { n: picked.length })}
        </button>
      </div>
      <List rows={rows} picked={picked} pick={pick} look={look} />
    </>
  );
}
