FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /srv/redeliver

# A line of its own: the packages are only installed again when they change. s3fs is for s3:// addresses.
COPY requirements.txt requirements-embedded.txt ./
RUN grep -E '^s3fs==' requirements-embedded.txt > s3.txt \
    && pip install --requirement requirements.txt --requirement s3.txt --constraint requirements-embedded.txt

COPY . .
# Collected and hashed here; the key is only one that signs nothing.
RUN python manage.py collectstatic --no-input \
    && useradd --system --uid 10001 --no-create-home redeliver \
    && install --directory --owner redeliver --mode 0700 /var/lib/redeliver

USER redeliver
ENV VAR_DIR=/var/lib/redeliver
EXPOSE 8000
CMD ["gunicorn", "-c", "python:config.gunicorn", "config.wsgi"]
