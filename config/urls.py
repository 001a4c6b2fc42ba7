"""Where everything is. The console is the admin, at the root."""

from django.contrib import admin
from django.urls import include, path

from config import health
from config import help as manual

urlpatterns = [
    path("-/live", health.live, name="live"),
    path("-/ready", health.ready, name="ready"),
    path("help/", admin.site.admin_view(manual.page), name="help"),
    path("help/<slug:name>/", admin.site.admin_view(manual.page), name="help"),
    path("language/", include("django.conf.urls.i18n")),
    path("", include("pipelines.urls")),
    path("", include("monitoring.urls")),
    path("", admin.site.urls),
]
handler400 = "config.failed.refused"
handler500 = "config.failed.page"
