"""Three records or so of every format of examples, and what is said in them: (role, text) of each message in turn."""

from __future__ import annotations

from typing import Any

Said = list[tuple[str, str]]


def talk(*turns: str, who: tuple[str, str] = ("human", "gpt"), keys: tuple[str, str] = ("from", "value")) -> list[Any]:
    return [{keys[0]: who[place % 2], keys[1]: turn} for place, turn in enumerate(turns)]


def said(*turns: str, system: str = "") -> Said:
    first = [("system", system)] if system else []
    return first + [(("user", "assistant")[place % 2], turn) for place, turn in enumerate(turns)]


def node(name: str, role: str, text: str, *replies: Any, **more: Any) -> dict[str, Any]:
    return {"message_id": name, "role": role, "text": text, "lang": "en", "replies": list(replies), **more}


def step(human: str, answer: str, thoughts: str = "None", commands: str = "None", results: str = "None") -> Any:
    return {
        "Human": f"<|Human|>: {human}<eoh>\n",
        "Inner Thoughts": f"<|Inner Thoughts|>: {thoughts}<eot>\n",
        "Commands": f"<|Commands|>: {commands}<eoc>\n",
        "Tool Responses": f"<|Results|>: {results}<eor>\n",
        "MOSS": f"<|MOSS|>: {answer}<eom>\n",
    }


CALL = '{"name": "tide", "arguments": {"port": "Brest"}}'
TOOL = {"name": "tide", "parameters": {"type": "object", "properties": {"port": {"type": "string"}}}}
BEFORE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."

CONVERSATIONS: dict[str, list[tuple[Any, Said]]] = {
    "alpaca": [
        ({"instruction": "Name a river.", "input": "", "output": "The Loire."}, said("Name a river.", "The Loire.")),
        ({"instruction": "Shout it.", "input": "quiet", "output": "QUIET"}, said("Shout it.|quiet", "QUIET")),
        (
            {
                "instruction": "And now?",
                "input": None,
                "output": "Rain.",
                "system": "Be brief.",
                "history": [["Hi", "Ho"]],
            },
            said("Hi", "Ho", "And now?", "Rain.", system="Be brief."),
        ),
    ],
    "alpaca-libre": [
        (
            {"instruction": "Count.", "input": "<noinput>", "output": "One.", "status": "ok", "other": {"n": 1}},
            said("Count.", "One."),
        ),
        ({"instruction": "Count.", "input": "", "output": "One.", "status": "too similar"}, []),
        ({"instruction": "Add 1.", "input": "2", "output": "3", "status": "ok"}, said("Add 1.|2", "3")),
    ],
    "alpaca-prompts": [
        (
            {"prompt": f"{BEFORE}\n\n### Instruction:\nName a bird.\n\n### Response:\n", "response": "Wren"},
            said("Name a bird.", "Wren"),
        ),
        (
            {
                "prompt": f"{BEFORE}\n\n### Instruction:\nTranslate.\n\n### Input:\nBonjour\n\n### Response:\n",
                "response": "Hello",
            },
            said("Translate.|Bonjour", "Hello"),
        ),
        (
            {"prompt": f"{BEFORE}\n\n### Instruction:\nTwo\n\nlines\n\n### Response:\n", "response": "Yes"},
            said("Two\n\nlines", "Yes"),
        ),
    ],
    "dolly": [
        (
            {
                "instruction": "When?",
                "context": "It opened in 1931.[4][12]",
                "response": "1931",
                "category": "closed_qa",
            },
            said("When?|It opened in 1931.", "1931"),
        ),
        ({"instruction": "Why?", "context": "", "response": "Why not", "category": "open_qa"}, said("Why?", "Why not")),
        (
            {"instruction": "Sum a[0]", "context": "", "response": "a[0]", "category": "general"},
            said("Sum a[0]", "a[0]"),
        ),
    ],
    "self-instruct": [
        (
            {
                "id": "seed_task_7",
                "name": "twice",
                "instruction": "Double it.",
                "instances": [{"input": "2", "output": "4"}],
                "is_classification": False,
            },
            said("Double it.|2", "4"),
        ),
        (
            {
                "id": "seed_task_8",
                "name": "诗",
                "instruction": "写诗",
                "instances": [{"input": "<无输入>", "output": "春"}],
            },
            said("写诗", "春"),
        ),
    ],
    "self-instruct-instances": [
        (
            {"instruction": "Reverse it.", "raw_instances": "Input: ab\nOutput: ba"},
            said("Reverse it.|ab", "ba"),
        ),
        ({"instruction": "Say hi.", "raw_instances": " hi there", "request_idx": 3}, said("Say hi.", "hi there")),
        (
            {
                "instruction": "Good or bad?",
                "is_classification": " Yes",
                "raw_instances": "Class label: good\nInput: sun",
            },
            said("Good or bad?|sun", "good"),
        ),
    ],
    "longform": [
        (
            {"input": "Write on bees.", "output": "Bees are ...", "source": "C4", "subset": "c4"},
            said("Write on bees.", "Bees are ..."),
        ),
        ({"input": "On ants?", "output": "Ants ...", "source": "WikiHow"}, said("On ants?", "Ants ...")),
    ],
    "input-output": [({"input": "a", "output": "b"}, said("a", "b")), ({"input": "c", "output": "d"}, said("c", "d"))],
    "input-target": [
        ({"input": "问", "target": "答"}, said("问", "答")),
        ({"input": "e", "target": "f"}, said("e", "f")),
    ],
    "question-answer": [
        ({"question": "1+1?", "answer": "2"}, said("1+1?", "2")),
        ({"question": "谁?", "std_answer": "我", "class": "open qa"}, said("谁?", "我")),
        ({"question": "Up?", "response": "Down"}, said("Up?", "Down")),
    ],
    "prompts": [
        ({"prompt": "Go on"}, said("Go on")),
        ({"user_prompt": "去"}, said("去")),
        ({"question": "?!"}, said("?!")),
    ],
    "belle-turns": [
        (
            {
                "instruction": "Human:我说 Human: 什么?\nAssistant:很好\nHuman:再见\nAssistant:",
                "input": "",
                "output": "再见",
            },
            said("我说 Human: 什么?", "很好", "再见", "再见"),
        ),
        ({"instruction": "Human: hi\nAssistant:", "input": "", "output": "ho"}, said("hi", "ho")),
    ],
    "guanaco": [
        (
            {
                "input": "### Human: hola ### Assistant: hey ### Human: adiós ### Assistant:",
                "output": "chao ### Human: no",
                "message_id": "m1",
                "parent_id": "m0",
                "lang": "es",
                "rank": 0,
            },
            said("hola", "hey", "adiós", "chao ### Human: no"),
        ),
        ({"text": "### Human: one### Assistant: two"}, said("one", "two")),
    ],
    "baize": [
        (
            {
                "topic": "tea",
                "input": "The conversation between human and AI assistant.\n[|Human|] Tea?\n[|AI|] Yes.\n[|Human|] ",
            },
            said("Tea?", "Yes."),
        ),
        ({"input": "Another beginning.\n[|Human|] a\n[|AI|] b\n[|Human|] c\n[|AI|] d"}, said("a", "b", "c", "d")),
    ],
    "moss": [
        (
            {
                "conversation_id": "1",
                "meta_instruction": "You are MOSS.\n",
                "num_turns": 2,
                "chat": {"turn_2": step("再见", "拜"), "turn_1": step("你好", "好")},
                "category": "chat",
            },
            said("你好", "好", "再见", "拜", system="You are MOSS.\n"),
        ),
        (
            {
                "conversation_id": 2,
                "meta_instruction": "",
                "num_turns": 1,
                "chat": {
                    "turn_1": step("2^9?", "512", "to compute", 'Calculate("2^9")', '\nCalculate("2^9") => 512\n')
                },
            },
            [("user", "2^9?"), ("assistant", ""), ("tool", '\nCalculate("2^9") => 512\n'), ("assistant", "512")],
        ),
    ],
    "sharegpt": [
        (
            {"id": "a_0", "conversations": talk("Hi", "Hello", "Bye", "Ciao"), "model": "m"},
            said("Hi", "Hello", "Bye", "Ciao"),
        ),
        (
            {
                "id": "a_1",
                "conversations": [{"from": "system", "value": "S"}, *talk("Q", "A", who=("user", "chatgpt"))],
            },
            said("Q", "A", system="S"),
        ),
        (
            {
                "id": "a_2",
                "conversations": [{"from": "bard", "value": "first"}, *talk("Q", "A", "R", who=("human", "bing"))],
            },
            said("Q", "A"),
        ),
    ],
    "phoenix": [
        ({"id": 1, "type": "instruction", "conversations": talk("一", "二")}, said("一", "二")),
        ({"id": 2, "type": "conversation", "conversations": talk("a", "b", "c", "d")}, said("a", "b", "c", "d")),
        ({"id": 3, "type": "conversation", "conversations": []}, []),
    ],
    "belle-conversations": [
        ({"id": "1", "conversations": talk("问", "答", who=("human", "assistant"))}, said("问", "答")),
        ({"id": "2", "conversations": talk("x", "y", who=("human", "assistant"))}, said("x", "y")),
    ],
    "llava": [
        (
            {"id": "7", "image": "7.jpg", "conversations": talk("<image>\nWhat?", "A dog.")},
            said("<image>\nWhat?", "A dog."),
        ),
        ({"id": "8", "image": "8.jpg", "conversations": talk("Who?\n<image>", "Me")}, said("Who?\n<image>", "Me")),
    ],
    "glaive": [
        (
            {
                "conversations": [
                    {"from": "human", "value": "High water?"},
                    {"from": "function_call", "value": CALL},
                    {"from": "observation", "value": '{"at": "12:05"}'},
                    {"from": "gpt", "value": "At 12:05."},
                ],
                "tools": f"[{TOOL}]".replace("'", '"'),
            },
            [("user", "High water?"), ("assistant", ""), ("tool", '{"at": "12:05"}'), ("assistant", "At 12:05.")],
        ),
        ({"conversations": talk("Hi", "Hello"), "tools": "[]"}, said("Hi", "Hello")),
    ],
    "messages": [
        (
            {"id": "c1", "messages": talk("Hi", "Ho", who=("user", "assistant"), keys=("role", "content"))},
            said("Hi", "Ho"),
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "S"},
                    {"role": "user", "content": [{"type": "text", "text": "part"}, {"type": "text", "text": "two"}]},
                    {"role": "assistant", "content": "A", "loss": False},
                    {"role": "user", "content": "again"},
                    {"role": "assistant", "content": "B"},
                ],
                "license": "CC0",
                "lang": "en",
            },
            said("part\ntwo", "A", "again", "B", system="S"),
        ),
    ],
    "colossal": [
        ({"messages": talk("Hi", "Ho", who=("user", "assistant"), keys=("from", "content"))}, said("Hi", "Ho")),
        ({"messages": talk("a", "b", who=("user", "assistant"), keys=("from", "content"))}, said("a", "b")),
    ],
    "asked-messages": [
        ({"messages": talk("Hi?", who=("user", "assistant"), keys=("from", "content"))}, said("Hi?")),
        ({"messages": talk("Ho?", who=("user", "assistant"), keys=("role", "content"))}, said("Ho?")),
    ],
    "prompt-completion-messages": [
        (
            {"prompt": [{"role": "user", "content": "p"}], "completion": [{"role": "assistant", "content": "c"}]},
            said("p", "c"),
        ),
    ],
    "oasst-trees": [
        (
            {
                "message_tree_id": "t1",
                "tree_state": "ready_for_export",
                "prompt": node(
                    "t1",
                    "prompter",
                    "Q",
                    node(
                        "a", "assistant", "A", node("q", "prompter", "and?", rank=0), rank=0, labels={"x": {"value": 1}}
                    ),
                    review_result=True,
                ),
            },
            said("Q", "A"),
        ),
        (
            {"message_tree_id": "t2", "tree_state": "growing", "prompt": node("t2", "prompter", "Q")},
            [],
        ),
    ],
    "oasst-messages": [
        (
            {"message_id": "b", "parent_id": "t3", "text": "B", "role": "assistant", "lang": "de", "rank": 0},
            [],
        ),
        (
            {
                "message_id": "t3",
                "parent_id": None,
                "text": "F",
                "role": "prompter",
                "lang": "de",
                "tree_state": "ready_for_export",
            },
            said("F", "B"),
        ),
    ],
}

OTHERS: dict[str, list[tuple[Any, Any]]] = {
    "hh": [
        (
            {
                "chosen": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Help\n\nAssistant: Of course",
                "rejected": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Help\n\nAssistant: No",
            },
            (said("Hi", "Yes?", "Help"), "Of course", "No"),
        ),
        ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}, (said("a"), "b", "c")),
    ],
    "dpo": [
        ({"prompt": "P", "chosen": "good", "rejected": "bad"}, (said("P"), "good", "bad")),
        (
            {
                "conversations": talk("Q"),
                "chosen": {"from": "gpt", "value": "x"},
                "rejected": {"from": "gpt", "value": "y"},
            },
            (said("Q"), "x", "y"),
        ),
        (
            {
                "context": [{"from": "user", "content": "C"}],
                "chosen": [{"from": "assistant", "content": "1"}],
                "rejected": [{"from": "assistant", "content": "2"}],
            },
            (said("C"), "1", "2"),
        ),
        ({"instruction": "I", "input": "in", "chosen": "k", "rejected": "l"}, (said("I|in"), "k", "l")),
        (
            {
                "chosen": talk("same", "won", who=("user", "assistant"), keys=("role", "content")),
                "rejected": talk("same", "lost", who=("user", "assistant"), keys=("role", "content")),
            },
            (said("same"), "won", "lost"),
        ),
    ],
    "kto": [
        (
            {"messages": talk("Q", "A", who=("user", "assistant"), keys=("role", "content")), "label": True},
            (said("Q", "A"), True),
        ),
        ({"prompt": "p", "completion": "c", "label": False}, (said("p", "c"), False)),
    ],
    "prompt-completion": [({"prompt": "two ", "completion": "three"}, ("two ", "three"))],
    "prompt-response": [({"prompt": "x", "response": "y"}, ("x", "y"))],
    "step-by-step": [
        ({"input": "i", "label": "yes", "rationale": "because", "llm_label": "no"}, ("i", "yes")),
    ],
    "pairs": [
        ({"source": "Guten Tag", "target": "Good day"}, ("Guten Tag", "Good day")),
        ({"source": ["One.", "Two."], "target": ["Sum.", "Or."]}, ("One. Two.", "Sum.")),
    ],
    "labelled": [
        ({"text": "fine", "label": 1}, (("fine",), "1")),
        ({"sentence": "bad", "label": "neg"}, (("bad",), "neg")),
        ({"sentence1": "a", "sentence2": "b", "score": 3.5}, (("a", "b"), 3.5)),
    ],
    "text": [({"text": "only this", "meta": {"url": "u"}}, "only this"), ({"text": "and this"}, "and this")],
}
