"""
What was said and what was heard, word by word.
"""

import re
from difflib import SequenceMatcher

STORY = """\
The house stood at the end of the road. Nobody had lived in it for twenty years. Its windows looked out over the sea. In \
winter the wind came in under the doors. My grandmother said that it was waiting for someone.
I first saw it on a cold morning in March. My brother and I had walked along the beach. He carried a bag of apples and I \
carried a map. The map was old and most of the names were wrong. We laughed about that until the rain began.
The door was not locked. Inside there was a long hall with a clock at the far end. The clock had stopped at four. There \
was dust on the stairs, but no dust on the clock. My brother noticed that before I did.
We lit a fire in the kitchen and sat down. The apples were sweet and the chairs were hard. After a while we heard a step \
above our heads. Then we heard another. Neither of us said anything.
An old man came down the stairs with a lamp in his hand. He was not surprised to see us. He asked whether we had come about \
the clock. My brother told him that we had only come out of the rain. That is what they all say, the old man answered.
He gave us tea in small white cups. He told us that he had been a teacher in the village. Then he had gone to sea, and then \
he had come back. The house belonged to his sister. She had asked him to look after it until she returned.
When will she return, my brother asked. The old man looked at the clock and smiled. She left at four, he said. She promised \
that she would not be late. I keep the hall clean so that she will see the time.
The rain stopped in the afternoon. We thanked him and walked back along the beach. The tide had covered the path that we had \
taken. We had to climb over the rocks. My shoes were full of water when we came home.
I told my grandmother about the old man and his tea. She put down her book and was quiet for a long time. There was a teacher \
once, she said. He had a sister who went away on a ship. They never found the ship.
I went back to the house the next summer. The door was locked and the windows were dark. I looked through the glass into the \
long hall. The floor was clean. The clock was ticking, and it was five minutes past four."""
"""Fifty sentences in ten paragraphs, as the pipeline sends them. Alone and without a sense, as the Harvard sentences are, \
one word of twenty-two is misheard."""


def words(text: str) -> list[str]:
    """
    Tell the words of a text, without what cannot be heard.
    """
    return re.findall(r"[a-z]+", text.lower().replace("'", "").replace("’", ""))


def errors(said: list[str], heard: list[str]) -> int:
    """
    Count the words that were heard wrong, or not, or too much.
    """
    steps = SequenceMatcher(None, said, heard, autojunk=False).get_opcodes()
    return sum(max(b - a, d - c) for step, a, b, c, d in steps if step != "equal")
