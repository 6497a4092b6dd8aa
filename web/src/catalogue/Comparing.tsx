import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { compareEntries, type Comparison } from "../api/catalogue";
import { t } from "../i18n";
import { LIST } from "../state/place";
import { Fetched } from "./Fetched";

/** Several entries side by side; what differs is marked by more than its colour. */
export function Comparing({ names }: { names: readonly string[] }): JSX.Element {
  return (
    <article class="cat-entry">
      <a class="small" href={LIST}>
        {t("catalogue.back")}
      </a>
      <Fetched of={names.join(" ")} load={() => compareEntries(names)}>
        {(found) => <Table found={found} />}
      </Fetched>
    </article>
  );
}

function Table({ found }: { found: Comparison }): JSX.Element {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), [found]);
  return (
    <>
      <h2 ref={heading} tabIndex={-1}>
        {found.names.join(" · ")}
      </h2>
      <p class="quiet">{t("catalogue.differs")}</p>
      <div class="cat-scroll" tabIndex={0} role="region" aria-label={found.names.join(", ")}>
        <table class="cat-compare">
          <thead>
            <tr>
              <td />
              {found.names.map((name) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {found.lines.map((line) => (
              <tr key={line.label} data-differs={line.differs}>
                <th scope="row">{line.label}</th>
                {line.texts.map((text, place) => (
                  <td key={found.names[place]}>{text}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
