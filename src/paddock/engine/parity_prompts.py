"""What two models are compared on: texts of several kinds and languages, all written for this."""

from __future__ import annotations

TEXTS = (
    "Once upon a time, a small boat lay in the harbour and nobody knew whose it was. Every morning the old keeper of "
    "the lighthouse looked at it, shook his head, and went back up the stairs to his lamp.",
    "The bridge is 412 metres long, was opened on 3 May 1937 and cost 27.5 million; 1,280 men built it in 4 years.",
    "def area(radius: float) -> float:\n    if radius < 0:\n        raise ValueError\n    return 3.14 * radius**2",
    "春天来了，河边的柳树长出了新芽。孩子们放学以后常常到河边放风筝，直到太阳落山才回家。",
    "Der Zug nach Süden fährt um halb sieben; wer zu spät kommt, muss bis zum nächsten Morgen am Bahnhof warten.",
    "La boulangère ouvrait sa boutique avant l'aube, et l'odeur du pain chaud remplissait déjà toute la rue.",
    "Зимой озеро замерзало так крепко, что по льду ездили на санях от одной деревни до другой.",
    '{"name": "kettle", "price": 24.90, "in_stock": true, "tags": ["kitchen", "steel"]}',
)

CHAT = (
    {"role": "user", "content": "Which is heavier, a litre of water or a litre of oil? Answer in one sentence."},
    {"role": "assistant", "content": "A litre of water is heavier, as oil swims on it."},
    {"role": "user", "content": "Then why does a steel ship swim?"},
)
