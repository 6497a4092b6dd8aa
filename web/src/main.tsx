import { render } from "preact";
import "./styles/page.css";
import "./styles/chat.css";
import "./styles/prose.css";
import { start } from "./state/store";
import { App } from "./ui/app";

render(<App />, document.getElementById("app")!);
void start();
