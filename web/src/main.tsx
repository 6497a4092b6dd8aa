import { render } from "preact";
import "./styles/page.css";
import "./styles/chat.css";
import "./styles/prose.css";
import { followAddress } from "./state/place";
import { start } from "./state/store";
import { App } from "./ui/app";

followAddress();
render(<App />, document.getElementById("app")!);
void start();
