"""RQ's own requeue of all failed jobs, as `rq requeue --all` does it. `python rq_requeue.py REDIS_URL JOBS` prints jobs a second."""

import sys
import time

from redis import Redis
from rq import Queue
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry


def main(url: str, number: int) -> None:
    client = Redis.from_url(url)
    client.flushdb()
    queue = Queue(connection=client)
    registry = FailedJobRegistry(queue=queue)
    with client.pipeline() as pipe:
        for place in range(number):
            job = Job.create("noop", (place,), connection=client, status=JobStatus.FAILED, origin=queue.name)
            job.save(pipeline=pipe)
            registry.add(job, ttl=-1, exc_string="ValueError: no luck", pipeline=pipe)
            if place % 1000 == 999:
                pipe.execute()
        pipe.execute()
    began = time.perf_counter()
    for job_id in registry.get_job_ids():
        registry.requeue(job_id)
    took = time.perf_counter() - began
    assert len(queue) == number
    client.flushdb()
    print(number / took)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
