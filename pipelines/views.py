"""The sample images, for the workers to fetch."""

from django.conf import settings
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseNotModified  # noqa: TID251
from django.views.decorators.http import require_safe
from django.views.static import serve

from pipelines import samples


@require_safe
def sample(request: HttpRequest, name: str) -> HttpResponse | FileResponse | HttpResponseNotModified:
    """A file of the samples' folder; 404 when it is not there, or when this site serves no samples."""
    if not settings.SAMPLES:
        raise Http404
    return serve(request, name, document_root=str(samples.prepare()))
