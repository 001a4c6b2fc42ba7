"""Mail to the ADMINS, through Django's mail backend."""

from smtplib import SMTPAuthenticationError, SMTPException, SMTPRecipientsRefused, SMTPResponseException

from django.conf import settings
from django.core.mail import EmailMessage

from monitoring.notice import NotDelivered, NotDeliveredYet, Notice


def configured() -> bool:
    """Whether there is anybody to write to."""
    return bool(settings.ADMINS)


def recipients() -> str:
    """To whom it goes, for people."""
    return ", ".join(address for _, address in settings.ADMINS)


def send(notice: Notice) -> None:
    """Mail `notice` to everybody in ADMINS; does nothing when there is nobody.

    Raises:
        NotDeliveredYet: the mail server is away, slow or busy.
        NotDelivered: the mail server refused the login or every address.
    """
    recipients = [address for _, address in settings.ADMINS]
    text = f"{notice.text}\n\n{notice.link}\n" if notice.link else f"{notice.text}\n"
    message = EmailMessage(f"[Redeliver] {notice.subject}", text, to=recipients)
    try:
        message.send()
    except (SMTPAuthenticationError, SMTPRecipientsRefused) as refusal:
        raise NotDelivered(f"The mail server refused: {refusal}") from refusal
    except (SMTPException, OSError) as problem:
        if isinstance(problem, SMTPResponseException) and problem.smtp_code >= 500:
            raise NotDelivered(f"The mail server refused: {problem}") from problem
        raise NotDeliveredYet(f"The mail server cannot be reached: {problem}") from problem
