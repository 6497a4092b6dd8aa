import "fake-indexeddb/auto";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { again, goOn, isRunning, messagesOf, rewrite, running, sayInstead, send, stop } from "../src/state/chatting";
import * as store from "../src/state/store";
import { Storage } from "../src/state/storage";
import { path, siblings, type Turn } from "../src/state/tree";
import { chunk, END, FakeServer, refused, slow, stream } from "./server";

let server: FakeServer;

beforeEach(async () => {
  server = new FakeServer();
  vi.stubGlobal("fetch", server.fetch);
  store.cards.value = new Map();
  store.begin();
  store.current.value = { ...store.current.value, system: "", sampling: {} };
  await store.start();
});

const shown = (): Turn[] => path(store.current.value);
const texts = (): string[] => shown().map((turn) => turn.text);
const last = (): Turn => shown().at(-1)!;

async function settled(): Promise<void> {
  await vi.waitFor(() => expect(running.value.size).toBe(0));
  await store.keepNow();
}

describe("a conversation with the server", () => {
  it("streams an answer, and tells the model all that was said", async () => {
    server.answers = [() => stream(chunk("Hel"), chunk("lo"), END)];
    store.change(store.current.value.id, (before) => ({ ...before, system: "Be kind.", sampling: { top_k: 3, stop: ["x"] } }));
    send("hi");
    await settled();
    expect(texts()).toEqual(["hi", "Hello"]);
    expect(last().answer).toMatchObject({ model: "tiny", mode: "chat", state: "done", finish: "stop" });
    expect(last().answer?.usage).toEqual({ prompt: 7, completion: 2, cached: 3 });
    send("more");
    await settled();
    const { path: address, body } = server.asked[1]!;
    expect(address).toBe("/v1/chat/completions");
    expect(body["messages"]).toEqual([
      { role: "system", content: "Be kind." },
      { role: "user", content: "hi" },
      { role: "assistant", content: "Hello" },
      { role: "user", content: "more" },
    ]);
    expect(body).toMatchObject({ model: "tiny", top_k: 3, stop: ["x"], stream: true, glass_box: true });
    expect(body).not.toHaveProperty("temperature");
  });

  it("grows while it is written, and stops when asked, keeping what came", async () => {
    const answer = slow();
    server.answers = [() => answer.response];
    send("hi");
    await vi.waitFor(() => expect(server.asked).toHaveLength(1));
    answer.say(chunk("One "));
    await vi.waitFor(() => expect(last().text).toBe("One "));
    expect(last().answer?.state).toBe("running");
    send("not now"); // one at a time
    expect(server.asked).toHaveLength(1);
    stop(store.current.value.id);
    expect(server.asked[0]!.signal?.aborted).toBe(true);
    answer.breakOff();
    await settled();
    expect(last()).toMatchObject({ text: "One ", answer: { state: "stopped" } });
  });

  it("says when the connection breaks off, and does not take a half answer for a whole", async () => {
    const answer = slow();
    server.answers = [() => answer.response, () => stream(chunk("half"))];
    send("hi");
    answer.say(chunk("begun"));
    await vi.waitFor(() => expect(last().text).toBe("begun"));
    answer.breakOff();
    await settled();
    expect(last()).toMatchObject({ text: "begun", answer: { state: "failed", refusal: { kind: "broken" } } });
    again(last().id);
    await settled();
    expect(last()).toMatchObject({ text: "half", answer: { state: "failed", refusal: { kind: "broken" } } });
  });

  it("shows an error that comes in the middle of a stream", async () => {
    server.answers = [() => stream(chunk("a"), 'data: {"error":{"message":"the engine died","code":null}}\n\n')];
    send("hi");
    await settled();
    expect(last()).toMatchObject({ text: "a", answer: { state: "failed", refusal: { message: "the engine died" } } });
  });

  it("shows a refusal with its numbers, makes room for the next try, and says nothing twice", async () => {
    server.answers = [
      () => refused(429, { message: "busy", code: "rate_limit_exceeded" }, { "Retry-After": "7" }),
      () => refused(400, { message: "too long", code: "context_length_exceeded" }),
      () => stream(chunk("yes"), END),
    ];
    send("hi");
    await settled();
    const told = last().answer!.refusal!;
    expect(told).toMatchObject({ status: 429, message: "busy", code: "rate_limit_exceeded" });
    expect(told.retryAt! - Date.now()).toBeGreaterThan(5000);
    again(last().id);
    await settled();
    expect(last().answer!.refusal).toMatchObject({ status: 400, code: "context_length_exceeded", retryAt: null });
    expect(siblings(store.current.value, last().id)).toHaveLength(1);
    send("shorter");
    await settled();
    expect(texts()).toEqual(["shorter", "yes"]);
    expect(server.asked[2]!.body["messages"]).toEqual([{ role: "user", content: "shorter" }]);
    expect(siblings(store.current.value, shown()[0]!.id)).toHaveLength(2);
  });

  it("says that nobody answers", async () => {
    vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
    send("hi");
    await settled();
    expect(last().answer).toMatchObject({ state: "failed", refusal: { kind: "unreachable", status: 0 } });
  });

  it("says which settings the server ignored", async () => {
    server.answers = [
      () => new Response(`${chunk("a")}${END}`, { headers: { "X-Paddock-Ignored": "min_p, glass_box" } }),
    ];
    send("hi");
    await settled();
    expect(last().answer?.ignored).toEqual(["min_p", "glass_box"]);
  });

  it("branches: another answer, another question, the user's own answer", async () => {
    server.answers = [() => stream(chunk("a1"), END), () => stream(chunk("a2"), END), () => stream(chunk("b1"), END)];
    send("q1");
    await settled();
    again(last().id);
    await settled();
    expect(texts()).toEqual(["q1", "a2"]);
    expect(siblings(store.current.value, last().id)).toHaveLength(2);
    expect(server.asked[1]!.body["messages"]).toEqual([{ role: "user", content: "q1" }]);
    sayInstead(shown()[0]!.id, "q2");
    await settled();
    expect(texts()).toEqual(["q2", "b1"]);
    rewrite(last().id, "mine");
    expect(texts()).toEqual(["q2", "mine"]);
    expect(last().answer).toBeUndefined();
    expect(server.asked).toHaveLength(3);
  });

  it("continues text, as it stands, where the model does not chat", async () => {
    server.chat = false;
    store.cards.value = new Map();
    await store.readModels();
    server.answers = [() => stream(chunk(" was"), END), () => stream(chunk(" a"), END), () => stream(chunk(" dog"), END)];
    send("There ");
    await settled();
    goOn(last().id);
    await settled();
    send(" big\n");
    await settled();
    expect(server.asked.map(({ path: address }) => address)).toEqual(Array(3).fill("/v1/completions"));
    expect(server.asked.map(({ body }) => body["prompt"])).toEqual(["There ", "There  was", "There  was a big\n"]);
    expect(server.asked[2]!.body).not.toHaveProperty("messages");
    expect(server.asked[2]!.body["max_tokens"]).toBe(500);
    expect(last().answer?.mode).toBe("text");
  });

  it("leaves out answers that never came", () => {
    const turn = (role: "user" | "assistant", text: string): Turn => ({ id: text, parent: null, role, text, at: 1 });
    expect(messagesOf([turn("user", "a"), turn("assistant", ""), turn("user", "b")], " ")).toEqual([
      { role: "user", content: "a" },
      { role: "user", content: "b" },
    ]);
  });
});

describe("what the browser keeps", () => {
  it("is there after the page was closed, glass box and all, until it is deleted", async () => {
    server.answers = [() => stream(chunk("Hello", { paddock: { tokens: [1] } }), END)];
    send("hi");
    const { id } = store.current.value;
    await settled();
    const turn = last().id;
    await vi.waitFor(async () => expect(await (await Storage.open()).glass(turn)).toEqual([{ tokens: [1] }]));
    const kept = await Storage.open();
    expect(await kept.one(id)).toEqual(store.current.value);
    store.rename(id, "  Named ");
    await store.keepNow();
    expect((await kept.one(id))?.title).toBe("Named");
    await store.forget(id);
    expect(await kept.one(id)).toBeUndefined();
    expect(await kept.glass(turn)).toBeUndefined();
    expect(store.listed.value.some((one) => one.id === id)).toBe(false);
    expect(store.current.value.id).not.toBe(id);
  });

  it("does not think that an answer is still being written when the page comes back", async () => {
    const answer = slow();
    server.answers = [() => answer.response];
    send("hi");
    const { id } = store.current.value;
    answer.say(chunk("half"));
    await vi.waitFor(() => expect(last().text).toBe("half"));
    await store.keepNow();
    store.conversations.value = new Map();
    await store.start();
    const found = store.conversations.value.get(id)!;
    expect(path(found).at(-1)).toMatchObject({ text: "half", answer: { state: "stopped" } });
    stop(id);
    answer.breakOff();
    await settled();
    expect(isRunning(id)).toBe(false);
  });
});
