import { render } from "preact";
import { start } from "./state/store";
import { App } from "./ui/app";

render(<App />, document.getElementById("app")!);
void start();
