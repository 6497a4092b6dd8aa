/** Conversations in this browser's IndexedDB, and nowhere else. What the glass box shows of a turn lies beside them. */

import type { Conversation, Id } from "./tree";

const DATABASE = "paddock";
const VERSION = 1;
const CONVERSATIONS = "conversations";
const GLASS = "glass";

export interface Glass {
  turn: Id;
  conversation: Id;
  events: readonly unknown[];
}

export class Storage {
  private constructor(private readonly database: IDBDatabase) {}

  /** Throws where the browser keeps nothing (private windows of some, full disks). */
  static async open(): Promise<Storage> {
    const request = indexedDB.open(DATABASE, VERSION);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(CONVERSATIONS, { keyPath: "id" });
      request.result.createObjectStore(GLASS, { keyPath: "turn" }).createIndex("conversation", "conversation");
    };
    const database = await result(request);
    database.onversionchange = () => database.close(); // a newer page wants to change the form
    return new Storage(database);
  }

  async all(): Promise<Conversation[]> {
    return (await result(this.of(CONVERSATIONS, "readonly").getAll())) as Conversation[];
  }

  async one(id: Id): Promise<Conversation | undefined> {
    return (await result(this.of(CONVERSATIONS, "readonly").get(id))) as Conversation | undefined;
  }

  async put(conversation: Conversation): Promise<void> {
    await result(this.of(CONVERSATIONS, "readwrite").put(conversation));
  }

  /** Forgets a conversation and what the glass box shows of it. */
  async remove(id: Id): Promise<void> {
    const transaction = this.database.transaction([CONVERSATIONS, GLASS], "readwrite");
    transaction.objectStore(CONVERSATIONS).delete(id);
    const store = transaction.objectStore(GLASS);
    for (const key of await result(store.index("conversation").getAllKeys(id))) store.delete(key);
    await new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }

  async putGlass(glass: Glass): Promise<void> {
    await result(this.of(GLASS, "readwrite").put(glass));
  }

  async glass(turn: Id): Promise<readonly unknown[] | undefined> {
    const found = (await result(this.of(GLASS, "readonly").get(turn))) as Glass | undefined;
    return found?.events;
  }

  private of(store: string, mode: IDBTransactionMode): IDBObjectStore {
    return this.database.transaction(store, mode).objectStore(store);
  }
}

function result<Value>(request: IDBRequest<Value>): Promise<Value> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
