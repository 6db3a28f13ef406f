"""The tiny VLM: a real Qwen3-VL of two million parameters that runs anywhere.

`architecture` and `tokenizer` say what it is, `pretrain` how its shipped `checkpoint` was made.
"""

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "checkpoint"
