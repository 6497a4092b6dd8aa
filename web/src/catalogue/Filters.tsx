import type { JSX } from "preact";
import type { Kind, Listed } from "../api/catalogue";
import { t, type Key } from "../i18n";
import { values, type Wanted } from "./filters";

const KINDS: Readonly<Record<Kind, Key>> = {
  model: "catalogue.models",
  dataset: "catalogue.datasets",
  application: "catalogue.applications",
};

interface FiltersProps {
  listed: Listed;
  wanted: Wanted;
  change: (next: Partial<Wanted>) => void;
}

export function Filters({ listed, wanted, change }: FiltersProps): JSX.Element {
  const models = wanted.kind === "model";
  const tasks = values(listed.rows, (row) => row.tasks);
  const families = values(listed.rows, (row) => [row.family]);
  const languages = Object.entries(listed.languages).sort(([, one], [, other]) => one.localeCompare(other));
  return (
    <form class="cat-filters" onSubmit={(event) => event.preventDefault()}>
      <label class="cat-words">
        <span>{t("catalogue.words")}</span>
        <input type="search" value={wanted.words} onInput={(event) => change({ words: event.currentTarget.value })} />
      </label>
      <Choice name={t("catalogue.kind")} value={wanted.kind} choose={(kind) => change({ kind: kind as Kind })}>
        {(Object.keys(KINDS) as Kind[]).map((kind) => (
          <option key={kind} value={kind}>
            {t(KINDS[kind])}
          </option>
        ))}
      </Choice>
      {models && <Choice name={t("catalogue.task")} value={wanted.task} choose={(task) => change({ task })} options={tasks} />}
      {models && <Choice name={t("catalogue.family")} value={wanted.family} choose={(family) => change({ family })} options={families} />}
      <Choice name={t("catalogue.language")} value={wanted.language} choose={(language) => change({ language })}>
        <option value="">{t("catalogue.any")}</option>
        {languages.map(([code, name]) => (
          <option key={code} value={code}>
            {name}
          </option>
        ))}
      </Choice>
      {models && (
        <label>
          <span>{t("catalogue.most")}</span>
          <input
            type="number"
            min="0.1"
            step="any"
            value={wanted.most ?? ""}
            onInput={(event) => change({ most: event.currentTarget.valueAsNumber > 0 ? event.currentTarget.valueAsNumber : null })}
          />
        </label>
      )}
      <label class="cat-tick">
        <input type="checkbox" checked={wanted.commercial} onChange={(event) => change({ commercial: event.currentTarget.checked })} />
        <span>{t("catalogue.commercial")}</span>
      </label>
      {models && (
        <label class="cat-tick">
          <input type="checkbox" checked={wanted.runnable} onChange={(event) => change({ runnable: event.currentTarget.checked })} />
          <span>{t("catalogue.runnable")}</span>
        </label>
      )}
    </form>
  );
}

interface ChoiceProps {
  name: string;
  value: string;
  choose: (value: string) => void;
  /** Values to choose from beside "any"; else the children say what there is. */
  options?: readonly string[];
  children?: JSX.Element | readonly (JSX.Element | readonly JSX.Element[])[];
}

function Choice({ name, value, choose, options, children }: ChoiceProps): JSX.Element {
  return (
    <label>
      <span>{name}</span>
      <select value={value} onChange={(event) => choose(event.currentTarget.value)}>
        {options && <option value="">{t("catalogue.any")}</option>}
        {options?.map((option) => (
          <option key={option} value={option}>
            {option}
          </option>
        ))}
        {children}
      </select>
    </label>
  );
}
