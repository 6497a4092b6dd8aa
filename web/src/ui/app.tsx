/** The whole page. */

import { lazy } from "./lazy";
import { view } from "../state/store";
import { t } from "../i18n";

const Compare = lazy(() => import("../compare"));

export function App() {
  return <main>{view.value === "compare" ? <Compare /> : <h1>{t("app.name")}</h1>}</main>;
}
