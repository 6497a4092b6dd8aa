// @vitest-environment node
import { describe, expect, it } from "vitest";
import {
  add, choose, drop, emptyConversation, matches, newId, path, pathTo, revise, siblings, titleOf, type Conversation, type Id,
  type Role,
} from "../src/state/tree";

function grown(...turns: readonly [id: Id, parent: Id | null, role: Role, text?: string][]): Conversation {
  return turns.reduce(
    (before, [id, parent, role, text]) => add(before, { id, parent, role, text: text ?? id, at: 1 }),
    emptyConversation(),
  );
}

/** Two questions, the first with two answers; then the first question edited. */
const BRANCHED = grown(
  ["q1", null, "user"],
  ["a1", "q1", "assistant"],
  ["a2", "q1", "assistant"],
  ["q2", "a2", "user"],
  ["b1", "q2", "assistant"],
  ["q1'", null, "user"],
  ["c1", "q1'", "assistant"],
);

const ids = (conversation: Conversation): Id[] => path(conversation).map((turn) => turn.id);

describe("a conversation's tree", () => {
  it("shows what was added last", () => {
    expect(ids(BRANCHED)).toEqual(["q1'", "c1"]);
    expect(ids(emptyConversation())).toEqual([]);
  });

  it("comes back to a branch with all that followed there", () => {
    const back = choose(BRANCHED, "q1");
    expect(ids(back)).toEqual(["q1", "a2", "q2", "b1"]);
    const first = choose(back, "a1");
    expect(ids(first)).toEqual(["q1", "a1"]);
    expect(ids(choose(first, "a2"))).toEqual(["q1", "a2", "q2", "b1"]);
  });

  it("lists branches in the order they were made", () => {
    expect(siblings(BRANCHED, "a1")).toEqual(["a1", "a2"]);
    expect(siblings(BRANCHED, "q1'")).toEqual(["q1", "q1'"]);
    expect(siblings(BRANCHED, "b1")).toEqual(["b1"]);
    expect(siblings(BRANCHED, "nobody")).toEqual([]);
  });

  it("tells the way to a turn, shown or not", () => {
    expect(pathTo(BRANCHED, "b1").map((turn) => turn.id)).toEqual(["q1", "a2", "q2", "b1"]);
    expect(pathTo(BRANCHED, "a1").map((turn) => turn.id)).toEqual(["q1", "a1"]);
    expect(pathTo(BRANCHED, null)).toEqual([]);
  });

  it("changes by being made anew", () => {
    const before = structuredClone(BRANCHED);
    add(BRANCHED, { id: "x", parent: "c1", role: "user", text: "", at: 2 });
    choose(BRANCHED, "q1");
    const revised = revise(BRANCHED, "c1", { text: "new" });
    expect(BRANCHED).toEqual(before);
    expect(revised.turns["c1"]?.text).toBe("new");
    expect(revised.turns["q1"]).toBe(BRANCHED.turns["q1"]);
  });

  it("takes no turn under a parent it lacks, and none twice", () => {
    expect(() => add(BRANCHED, { id: "x", parent: "nobody", role: "user", text: "", at: 2 })).toThrow(RangeError);
    expect(() => add(BRANCHED, { id: "a1", parent: null, role: "user", text: "", at: 2 })).toThrow(RangeError);
    expect(revise(BRANCHED, "nobody", { text: "new" })).toBe(BRANCHED);
    expect(choose(BRANCHED, "nobody")).toBe(BRANCHED);
  });

  it("lets go of a turn that nothing follows, and of no other", () => {
    expect(ids(drop(BRANCHED, "c1"))).toEqual(["q1'"]);
    expect(siblings(drop(BRANCHED, "a1"), "a2")).toEqual(["a2"]);
    expect(drop(BRANCHED, "a2")).toBe(BRANCHED);
    expect(drop(BRANCHED, "nobody")).toBe(BRANCHED);
  });

  it("survives a choice of what is not there any more", () => {
    expect(ids({ ...BRANCHED, chosen: { "": "gone", q1: "gone" } })).toEqual(["q1'", "c1"]);
  });

  it("is listed under its name, else its first words", () => {
    const long = grown(["q", null, "user", `  A\n question ${"🐴".repeat(100)}`]);
    expect(titleOf(emptyConversation())).toBe("");
    expect(titleOf(BRANCHED)).toBe("q1'");
    expect(titleOf({ ...BRANCHED, title: "Named" })).toBe("Named");
    expect(Array.from(titleOf(long))).toHaveLength(60);
    expect(titleOf(long).isWellFormed()).toBe(true);
    expect(titleOf(long).startsWith("A question 🐴")).toBe(true);
  });

  it("is found by all words of a search, in any branch", () => {
    expect(matches(BRANCHED, "")).toBe(true);
    expect(matches(BRANCHED, "B1 a2")).toBe(true);
    expect(matches(BRANCHED, "b1 nothing")).toBe(false);
    expect(matches({ ...BRANCHED, title: "My Dog" }, "dog")).toBe(true);
  });

  it("gives ids that never repeat", () => {
    expect(new Set(Array.from({ length: 1000 }, newId)).size).toBe(1000);
  });
});
