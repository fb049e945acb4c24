"""What counts as a word, and which marks belong together, wherever texts are looked at."""

import re

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
"""Letters and digits in a row, with apostrophes inside."""
BRACKETS = {"(": ")", "[": "]", "{": "}"}
"""The closing bracket of each opening one."""
QUOTES = {"“": "”", "«": "»", "„": "“", '"': '"'}
"""The closing quotation mark of each opening one; ``“`` opens in English and closes in German."""
PUNCTUATION = ".,;:!?"
"""What ends a phrase or a sentence."""
