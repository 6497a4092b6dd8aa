export { GlassPanel as default } from "./GlassPanel";
