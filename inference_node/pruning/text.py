"""The text that cut-offs are learned from."""

# Written for this purpose: prose, dialogue, numbers, code, data, lists and verse, so that no one kind of text sets the quantiles.
# Nothing of it may be used to measure quality.
TEXT = """A small harbour town wakes before the sun. Boats that left at three come back with herring, and the first bakery opens
its door so that the smell of bread reaches the quay. Nobody there speaks of efficiency, yet each of them knows how long a
crate may stand before the ice has melted, and which buyer pays on the day.

"Did you check the second engine?" asked Mara.
"Twice. It runs, but it runs hot. I would not take it out in that wind," her brother said, and wiped his hands.

To estimate the cost, add the fixed part to the variable part: 1,250 + 37.5 * 18 = 1,925. In March 2021 the same order came
to 1,610, an increase of about 19.6 percent, mostly because freight had doubled.

def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2

Steps to restart the service:
1. Stop the queue workers and wait until no task is running.
2. Take a backup of the database.
3. Install the new version, then run the migrations.
4. Start one worker, watch its log for five minutes, and start the others.

What is the capital of France? The capital of France is Paris. Water boils at 100 degrees Celsius at sea level, and at a lower
temperature in the mountains, because the pressure of the air is lower there.

The letter had lain in the drawer for eleven years. When Ilse finally opened it, the ink had faded to the brown of weak tea,
and the first page said nothing that she did not already know: that the house was sold, that the dog was well, that the orchard
had been cut down to make room for a road. It was the second page that made her sit down.

User: My train is cancelled and I have to be in Lyon by nine tomorrow. What are my options?
Assistant: You have three. A night bus leaves at 22:40 and arrives at 6:15, which is cheap but leaves little sleep. The first
train in the morning reaches Lyon at 8:52, so any delay makes you late. A shared car costs about 35 euros and takes four hours.
If the meeting matters, take the bus.
User: And if I want to sleep?
Assistant: Then travel this evening as far as Dijon, sleep near the station, and take the 7:05 from there.

UPDATE shelves SET capacity = capacity - 4, checked_by = 'night shift'
WHERE hall = 7 AND capacity > (SELECT AVG(capacity) FROM shelves WHERE hall <> 7);

for file in backups/*.gz; do
  [ -s "$file" ] || { echo "$file is empty" >&2; exit 1; }
  gzip --test "$file" && mv "$file" verified/
done

class Queue:
    def __init__(self, limit=100):
        self.items, self.limit = [], limit

    def push(self, item):
        if len(self.items) >= self.limit:
            raise OverflowError("the queue is full")
        self.items.append(item)

Photosynthesis is the process by which plants, algae and some bacteria turn light into chemical energy. Chlorophyll absorbs
mostly red and blue light; the green that is left over is what we see. The energy splits water into hydrogen and oxygen, and
the hydrogen then helps to build sugar from carbon dioxide.

{"name": "sensor-17", "unit": "kPa", "values": [101.2, 101.4, null, 100.9], "ok": true}

Write a short poem about rain.
Rain on the roof of the market hall,
rain on the coats by the door,
a thousand small drummers who play for us all
and ask for not one penny more.
"""
# Of another, longer text no more would be taken: sizes settle after some hundred tokens.
MOST_TOKENS = 1024
