"""What each cause means, and what usually helps: one sentence for the person who looks at a letter."""

from django.utils.translation import gettext_lazy as _

from deadletters.models import Cause

HELP = {
    Cause.EXCEPTION: _("The task raised and will not try again. Fix the bug or the data, then replay."),
    Cause.RETRIES_EXHAUSTED: _("Every retry was used up. Replay when whatever it waited for is back."),
    Cause.SOFT_TIME_LIMIT: _(
        "The task ran longer than its soft time limit. Make it faster or raise the limit, then replay."
    ),
    Cause.HARD_TIME_LIMIT: _(
        "The task was killed at its time limit; what it had done by then is unknown. Check before a replay."
    ),
    Cause.WORKER_LOST: _(
        "The task's process vanished: killed for its memory, crashed, or told to exit. Look at that machine."
    ),
    Cause.MEMORY_ERROR: _("The task asked for more memory than there was. Give it a smaller input or a bigger worker."),
    Cause.RESULT_ENCODE: _("The task ran to its end, but what it returned is not JSON. A replay runs it once more."),
    Cause.REJECTED: _("The task refused its own message."),
    Cause.PUBLISH_FAILED: _("The broker was away when the next message had to be sent. Replay when it is back."),
    Cause.CANCELLED_BY_SHUTDOWN: _(
        "The worker was stopped at once while the task ran. It can usually be replayed as it is."
    ),
    Cause.EXPIRED: _(
        "It waited in its queue past its expiry. A replay runs it without an expiry; ask if it is still wanted."
    ),
    Cause.POISON: _(
        "Worker after worker went down with this message. Find out why before a replay takes the next one."
    ),
    Cause.REVOKED: _("An operator revoked it. Replay it if it is wanted after all, else discard it."),
    Cause.UNKNOWN_TASK: _("No worker on this queue knows the task. Deploy it, or fix its name, then replay."),
    Cause.UNDECODABLE: _("The body cannot be read. It is kept byte for byte; its sender has to send it again."),
    Cause.INVALID: _(
        "A field of the message makes no sense, so no worker could run it. Its sender has to send it again."
    ),
    Cause.UNKNOWN_MESSAGE: _("Something that is no Celery task was sent to this queue. Find out who sends it."),
}
