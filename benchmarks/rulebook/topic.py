"""An event source for ansible-rulebook: the first so many records of Kafka topics, one topic after the other.

It is given to ansible-rulebook by `-S`, and fetches and decodes as the source `ansible.eda.kafka` does.
"""

import json

from aiokafka import AIOKafkaConsumer


async def main(queue, args):
    for topic in args["topics"]:
        consumer = AIOKafkaConsumer(
            topic["name"], bootstrap_servers=args["servers"], group_id=topic["group"], auto_offset_reset="earliest"
        )
        await consumer.start()
        left = topic["count"]
        async for message in consumer:
            await queue.put(json.loads(message.value))
            left -= 1
            if not left:
                break
        await consumer.stop()
