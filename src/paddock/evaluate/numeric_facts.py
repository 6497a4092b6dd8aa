"""Facts with a number that is widely known, and sentences to put around them: what `numeric_qa` makes documents of."""

from __future__ import annotations

from typing import NamedTuple


class Fact(NamedTuple):
    """A sentence and a question about the number in it, each with {n} or without; `known`: what the number is."""

    sentence: str
    question: str
    known: int


FACTS = (
    Fact("The Eiffel Tower in Paris stands {n} metres tall.", "How many metres tall is the Eiffel Tower?", 330),
    Fact(
        "Mount Everest rises {n} metres above the sea.", "How many metres above the sea does Mount Everest rise?", 8849
    ),
    Fact("Columbus first reached America in {n}.", "In which year did Columbus first reach America?", 1492),
    Fact("Water boils at {n} degrees Celsius at sea level.", "At how many degrees Celsius does water boil?", 100),
    Fact("A common year has {n} days.", "How many days does a common year have?", 365),
    Fact("A marathon is run over {n} metres.", "Over how many metres is a marathon run?", 42195),
    Fact("The Berlin Wall fell in {n}.", "In which year did the Berlin Wall fall?", 1989),
    Fact("People first walked on the Moon in {n}.", "In which year did people first walk on the Moon?", 1969),
    Fact("An adult human has {n} bones.", "How many bones does an adult human have?", 206),
    Fact("The Nile is {n} kilometres long.", "How many kilometres long is the Nile?", 6650),
    Fact("A chessboard has {n} squares.", "How many squares does a chessboard have?", 64),
    Fact("A piano usually has {n} keys.", "How many keys does a piano usually have?", 88),
    Fact("A full circle has {n} degrees.", "How many degrees does a full circle have?", 360),
    Fact("The Titanic sank in {n}.", "In which year did the Titanic sink?", 1912),
    Fact("Sound travels {n} metres in a second through air.", "How many metres does sound travel in a second?", 343),
    Fact("The United States has {n} states.", "How many states does the United States have?", 50),
    Fact("The French Revolution began in {n}.", "In which year did the French Revolution begin?", 1789),
    Fact("The Danube is {n} kilometres long.", "How many kilometres long is the Danube?", 2850),
    Fact("Gold has the atomic number {n}.", "What is the atomic number of gold?", 79),
    Fact("A deck of playing cards has {n} cards.", "How many cards does a deck of playing cards have?", 52),
)

FILLER = (
    "The road to the village follows the river for most of the way.",
    "In the evening the shopkeepers close their shutters one after another.",
    "Nobody remembers who planted the old chestnut trees along the square.",
    "A letter arrived that morning, but it was for the neighbour.",
    "The museum keeps a collection of maps that few visitors ask to see.",
    "When it rains, the children play under the roof of the market hall.",
    "The baker tried a new flour this week and was not content with it.",
    "Two dogs slept in front of the station and did not mind the trains.",
    "The library has put the travel books into another room.",
    "On clear days one can see the mountains behind the town.",
    "The ferry leaves whenever enough passengers have come together.",
    "Somebody had painted the benches green, and they were not dry yet.",
    "The teacher opened the window because the room had become warm.",
    "Farmers say that the soil near the mill is better than it looks.",
    "The clock of the town hall is slow, as everybody knows.",
    "An old song about the harbour was played on the radio again.",
    "The carpenter needed more time than he had thought.",
    "Behind the church there is a garden with roses and a well.",
    "The newspaper wrote about the new bridge, but said little.",
    "They spoke about the weather until the soup was served.",
    "A cat sat on the wall and watched the swallows.",
    "The hotel has changed its owner, and the curtains with him.",
    "In autumn the hills turn brown, and the tourists leave.",
    "The doctor visits the islands with a small boat.",
)
