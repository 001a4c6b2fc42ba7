"""Where everything is. The console is the admin, at the root."""

from django.contrib import admin
from django.urls import include, path

from config import health

urlpatterns = [
    path("-/live", health.live, name="live"),
    path("-/ready", health.ready, name="ready"),
    path("", include("pipelines.urls")),
    path("", include("monitoring.urls")),
    path("", admin.site.urls),
]
