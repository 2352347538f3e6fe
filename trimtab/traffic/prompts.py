"""What is asked: short chat questions under a few shared system prompts, as an assistant's users would."""

import random
from typing import Any

SYSTEM_PROMPTS = (
    "You are the help desk of a small sailing school. Answer in plain words, in at most three sentences, and say so when you "
    "do not know something.",
    "You are a patient tutor for people who return to science after many years. Explain step by step and avoid jargon.",
    "You write short, friendly product answers for an online shop that sells outdoor gear. Never invent prices or stock.",
)
QUESTIONS = (
    "What is a trim tab, and why does a small one move a large rudder?",
    "How do I tie a bowline so that it does not slip?",
    "Why does the moon look larger near the horizon?",
    "What should I pack for two rainy days in the hills?",
    "Explain how a heat pump can give more heat than the electricity it uses.",
    "What is the difference between weather and climate?",
    "How do I wash a down sleeping bag?",
    "Why do we have leap years?",
    "What does a keel do?",
    "Give me three tips for sleeping better in a tent.",
    "How does a vaccine train the body?",
    "Is it safe to sail in a thunderstorm?",
    "What makes bread rise?",
    "How do noise-cancelling headphones work?",
    "My boots got wet. How do I dry them without harming the leather?",
    "What is the fastest way to learn the names of the stars?",
    "Why is the sea salty?",
    "How do I read the numbers on a topographic map?",
    "What is inertia? An everyday example, please.",
    "Can I use a climbing rope to tow a boat?",
    "How do tides work?",
    "What do the letters on a wetsuit mean?",
    "Why does ice float?",
    "How can I tell which way the wind blows when I stand on the shore?",
    "What is a good first knot for children?",
    "How does a compass know where north is?",
    "What should I check before I set out with a rented dinghy?",
    "Tell me how a rainbow forms.",
    "How long does a gas cartridge for a camping stove last?",
    "What is a neap tide?",
    "Why do bicycles stay upright?",
    "How do I store a tent over the winter?",
)
MIN_TOKENS, MAX_TOKENS = 24, 64


def make_request(model: str, source: random.Random) -> dict[str, Any]:
    """Body of one streamed chat completion."""
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": source.choice(SYSTEM_PROMPTS)},
            {"role": "user", "content": source.choice(QUESTIONS)},
        ],
        "max_tokens": source.randint(MIN_TOKENS, MAX_TOKENS),
        "temperature": 0.7,
        "seed": source.randrange(2**31),
        "stream": True,
    }
