/** Two models or settings side by side on one prompt. Loaded when it is opened first. */

import { t } from "../i18n";

/** Everything between the page's header and its end; a <main> is around it. */
export default function Compare() {
  return <h1>{t("nav.compare")}</h1>;
}
