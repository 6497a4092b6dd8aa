/** The interface's texts, and numbers and dates beside them, in the language of the reader. */

export { decimal, language, LANGUAGES, moment, NAMES, percent, setLanguage, type Language } from "./language";
export { t, type PlainKey as Key } from "./translate";
export { LanguagePicker } from "./LanguagePicker";
