/** Parts of the page that are fetched when they are shown first. */

import type { ComponentType, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { t } from "../i18n";

/** A component that stands for the default export of what `load` brings. */
export function lazy<Props extends object>(
  load: () => Promise<{ default: ComponentType<Props> }>,
): (props: Props) => JSX.Element {
  let loaded: ComponentType<Props> | null = null;
  return function Lazy(props: Props) {
    const [Part, setPart] = useState<ComponentType<Props> | null>(() => loaded);
    const [failed, setFailed] = useState(false);
    useEffect(() => {
      if (Part) return;
      load().then(
        (found) => {
          loaded = found.default;
          setPart(() => found.default);
        },
        () => setFailed(true),
      );
    }, [Part]);
    if (Part) return <Part {...props} />;
    return <p class="quiet">{failed ? t("error.unreachable") : t("app.loading")}</p>;
  };
}
