export { Compare as default } from "./Compare";
