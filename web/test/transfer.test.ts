// @vitest-environment node
import { describe, expect, it } from "vitest";
import { exported, FORMAT, ImportError, imported } from "../src/state/transfer";
import { add, choose, emptyConversation, path, type Conversation } from "../src/state/tree";

function example(): Conversation {
  let made = { ...emptyConversation({ model: "stories", system: "Be kind.", sampling: { top_k: 5, stop: ["\n"] } }), title: "Mine" };
  made = add(made, { id: "q", parent: null, role: "user", text: "汉字 <b>", at: 1 }) as typeof made;
  made = add(made, { id: "a", parent: "q", role: "assistant", text: "one", at: 2, reasoning: "hm" }) as typeof made;
  made = add(made, {
    id: "b",
    parent: "q",
    role: "assistant",
    text: "two",
    at: 3,
    answer: {
      model: "stories",
      mode: "text",
      state: "done",
      sampling: { seed: 3 },
      system: "",
      finish: "stop",
      usage: { prompt: 5, completion: 2, cached: 1 },
      first: 0.1,
      seconds: 1,
    },
  }) as typeof made;
  return choose(made, "a");
}

/** Without ids, which are new after every import. */
function said(conversation: Conversation): unknown {
  const { id: _, turns, chosen: __, ...rest } = conversation;
  return { ...rest, turns: Object.values(turns).map(({ id: _id, parent: _parent, ...turn }) => turn) };
}

function file(conversations: unknown): string {
  return JSON.stringify({ format: FORMAT, version: 1, conversations });
}

describe("conversations as a file", () => {
  it("come back as they were, beside those that are here", () => {
    const before = example();
    const [after] = imported(exported([before]));
    expect(said(after!)).toEqual(said(before));
    expect(path(after!).map((turn) => turn.text)).toEqual(["汉字 <b>", "one"]);
    expect(after!.id).not.toBe(before.id);
    expect(Object.keys(after!.turns)).not.toContain("q");
  });

  const turn = { parent: null, role: "user", text: "hi", at: 1 };
  const refused: [name: string, text: string, place: string][] = [
    ["no JSON", "{", "json"],
    ["another JSON", "[]", "format"],
    ["another version", JSON.stringify({ format: FORMAT, version: 2, conversations: [] }), "format"],
    ["no list", file({}), "conversations"],
    ["a conversation that is none", file([1]), "conversations[0]"],
    ["no turns", file([{}]), "conversations[0].turns"],
    ["a turn of nobody", file([{ turns: { a: { ...turn, role: "system" } } }]), 'conversations[0].turns["a"].role'],
    ["a turn without words", file([{ turns: { a: { ...turn, text: 1 } } }]), 'conversations[0].turns["a"].text'],
    ["a parent that is not there", file([{ turns: { a: { ...turn, parent: "b" } } }]), 'conversations[0].turns["a"].parent'],
    ["a turn that is its own parent", file([{ turns: { a: { ...turn, parent: "a" } } }]), 'conversations[0].turns["a"].parent'],
    [
      "a circle",
      file([{ turns: { a: { ...turn, parent: "b" }, b: { ...turn, parent: "a" } } }]),
      'conversations[0].turns["a"].parent',
    ],
  ];
  it.each(refused)("with %s are refused, and where", (_, text, place) => {
    expect(() => imported(text)).toThrow(expect.objectContaining({ place }));
    expect(() => imported(text)).toThrow(ImportError);
  });

  it("bring no more than a conversation has", () => {
    const hostile = file([
      {
        __proto__: { polluted: true },
        title: "x",
        sampling: { temperature: "hot", top_k: 1e99, top_p: 0.5, evil: 1, stop: [1, "end"] },
        chosen: { "": "nobody", nobody: "a" },
        turns: { ["__proto__"]: { ...turn }, a: { ...turn, answer: { state: "running", model: 7, html: "<script>" } } },
      },
    ]);
    const [found] = imported(hostile.replace('"turns":{', '"turns":{"__proto__":{"parent":null,"role":"user","text":"p","at":1},'));
    expect(found!.sampling).toEqual({ top_p: 0.5, stop: ["end"] });
    expect(found!.chosen).toEqual({});
    const answers = Object.values(found!.turns).flatMap((one) => one.answer ?? []);
    expect(answers).toEqual([{ model: "", mode: "chat", state: "stopped", sampling: {}, system: "" }]);
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
    expect(({} as Record<string, unknown>)["role"]).toBeUndefined();
  });
});
