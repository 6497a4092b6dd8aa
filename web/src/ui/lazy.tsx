/** Parts of the page that are fetched when they are shown first. */

import type { ComponentType, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { t } from "../i18n";

/** A component that stands for the one that `load` brings. */
export function lazy<Props extends object>(load: () => Promise<ComponentType<Props>>): (props: Props) => JSX.Element {
  let loaded: ComponentType<Props> | null = null;
  return function Lazy(props: Props) {
    const [Part, setPart] = useState<ComponentType<Props> | null>(() => loaded);
    const [failed, setFailed] = useState(false);
    useEffect(() => {
      if (Part) return;
      load().then(
        (found) => {
          loaded = found;
          setPart(() => found);
        },
        () => setFailed(true),
      );
    }, [Part]);
    if (Part) return <Part {...props} />;
    if (!failed) return <p class="quiet">{t("app.loading")}</p>;
    // A browser does not ask again for a script that failed to come, while the page lives.
    return (
      <div role="alert">
        <p class="quiet">{t("error.unreachable")}</p>
        <button type="button" class="small" onClick={() => location.reload()}>
          {t("error.retry")}
        </button>
      </div>
    );
  };
}
