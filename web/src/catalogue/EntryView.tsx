import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { fetchEntry, type Entry, type Neighbour, type Source } from "../api/catalogue";
import { t } from "../i18n";
import { entryAddress, LIST } from "../state/place";
import { Fetched } from "./Fetched";
import { count, SMALLEST } from "./filters";
import { Picture } from "./Picture";

/** One entry: every fact with the number of its source, what it descends from, and the sources in full. */
export function EntryView({ name }: { name: string }): JSX.Element {
  return (
    <article class="cat-entry">
      <a class="small" href={LIST}>
        {t("catalogue.back")}
      </a>
      <Fetched of={name} load={() => fetchEntry(name)}>
        {(entry) => <Told entry={entry} />}
      </Fetched>
    </article>
  );
}

function Told({ entry }: { entry: Entry }): JSX.Element {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), [entry]);
  const { row } = entry;
  return (
    <>
      <h2 ref={heading} tabIndex={-1}>
        {row.name}
        {entry.size && ` ${entry.size}`}
      </h2>
      <p>{row.about}</p>
      {entry.size === null && row.sizes.length > 1 && <Sizes entry={entry} />}
      <dl class="cat-facts">
        {entry.facts.map((fact) => (
          <div key={fact.label}>
            <dt>{fact.label}</dt>
            <dd>
              {fact.text}
              {fact.source !== null && <Mark number={fact.source} source={entry.sources[fact.source]} />}
            </dd>
          </div>
        ))}
      </dl>
      {entry.notes.length > 0 && (
        <ul class="cat-notes">
          {entry.notes.map((note) => (
            <li key={note}>{note}</li>
          ))}
        </ul>
      )}
      <Neighbours title={t("catalogue.up")} kinds={entry.up} />
      <Neighbours title={t("catalogue.down")} kinds={entry.down} />
      {Object.keys(entry.up).length + Object.keys(entry.down).length > 0 && (
        <Picture path={`v1/catalogue/lineage.svg?name=${encodeURIComponent(row.id)}`} name={t("catalogue.lineage", { name: row.name })} />
      )}
      <h3>{t("catalogue.sources")}</h3>
      <ol class="cat-sources">
        {entry.sources.map((source) => (
          <li key={source.url + source.title}>
            <SourceLink source={source} />
          </li>
        ))}
      </ol>
    </>
  );
}

function Mark({ number, source }: { number: number; source: Source | undefined }): JSX.Element {
  return (
    <sup class="cat-mark" title={source?.title}>
      {number + 1}
    </sup>
  );
}

function SourceLink({ source }: { source: Source }): JSX.Element {
  return (
    <>
      {source.url ? (
        <a href={source.url} target="_blank" rel="noopener noreferrer">
          {source.title}
        </a>
      ) : (
        source.title
      )}
      <span class="cat-about">
        {source.date && `${source.date}; `}
        {source.read ? t("catalogue.read", { date: source.read }) : t("catalogue.noted", { date: source.noted ?? "" })}
      </span>
    </>
  );
}

function Sizes({ entry }: { entry: Entry }): JSX.Element {
  return (
    <div class="cat-scroll" tabIndex={0} role="region" aria-label={t("catalogue.sizes")}>
      <table>
        <thead>
          <tr>
            <th scope="col">{t("catalogue.sizes")}</th>
            <th scope="col">{t("catalogue.parameters")}</th>
            <th scope="col">{t("catalogue.active")}</th>
            <th scope="col">bf16</th>
            <th scope="col">{SMALLEST}</th>
          </tr>
        </thead>
        <tbody>
          {entry.row.sizes.map((size) => (
            <tr key={size.id}>
              <th scope="row">
                <a class="cat-link" href={entryAddress(size.id)}>
                  {size.stated ?? size.name}
                </a>
              </th>
              <td class="cat-number">{size.parameters?.toLocaleString("en") ?? ""}</td>
              <td class="cat-number">{size.active === null ? "" : count(size.active)}</td>
              <td class="cat-number">{gigabytes(size.bytes["bf16"])}</td>
              <td class="cat-number">{gigabytes(size.bytes[SMALLEST])}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function gigabytes(bytes: number | undefined): string {
  return bytes === undefined ? "" : `${(bytes / 1e9).toFixed(bytes < 1e10 ? 2 : 1)} GB`;
}

interface NeighboursProps {
  title: string;
  kinds: Entry["up"];
}

const HOW = {
  base: "catalogue.base",
  teachers: "catalogue.teachers",
  data: "catalogue.data",
  made_with: "catalogue.made-with",
  made_from: "catalogue.made-from",
  uses: "catalogue.uses",
} as const;

function Neighbours({ title, kinds }: NeighboursProps): JSX.Element | null {
  const found = Object.entries(kinds);
  if (found.length === 0) return null;
  return (
    <section>
      <h3>{title}</h3>
      <dl class="cat-facts">
        {found.map(([kind, others]) => (
          <div key={kind}>
            <dt>{kind in HOW ? t(HOW[kind as keyof typeof HOW]) : kind}</dt>
            <dd>{others.map((other) => <Link key={other.id} other={other} />)}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Link({ other }: { other: Neighbour }): JSX.Element {
  return (
    <a class="cat-size" href={entryAddress(other.id)}>
      {other.name}
    </a>
  );
}
