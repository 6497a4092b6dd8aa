import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Refusal, type Told } from "../api/refusal";
import { t } from "../i18n";
import { RefusalBox } from "../ui/refusals";

interface FetchedProps<Value> {
  /** What `load` depends on. */
  of: string;
  load: () => Promise<Value>;
  children: (value: Value) => JSX.Element;
}

/** Something that the server is asked for, drawn when it is there; until then that it is on its way, or why it is not. */
export function Fetched<Value>({ of, load, children }: FetchedProps<Value>): JSX.Element {
  const [value, setValue] = useState<Value>();
  const [told, setTold] = useState<Told>();
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let wanted = true;
    setValue(undefined);
    setTold(undefined);
    load().then(
      (found) => wanted && setValue(() => found),
      (error: unknown) => wanted && setTold(toldOf(error)),
    );
    return () => {
      wanted = false;
    };
  }, [of, turn]);
  if (told) return <RefusalBox told={told} onRetry={() => setTurn(turn + 1)} />;
  if (value === undefined) return <p class="quiet">{t("app.loading")}</p>;
  return children(value);
}

function toldOf(error: unknown): Told {
  return error instanceof Refusal ? error.told : new Refusal({ kind: "broken", message: "" }).told;
}
