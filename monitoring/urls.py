"""The addresses of this room that are not admin pages."""

from django.contrib import admin
from django.urls import path

from monitoring import views, workers_views

app_name = "monitoring"
inside = admin.site.admin_view
urlpatterns = [
    # Before the admin's own index, in its frame and behind its login.
    path("", inside(views.dashboard), name="dashboard"),
    path("workers/", inside(workers_views.screen), name="workers"),
    path("workers/pause/", inside(workers_views.pause_queue), name="pause_queue"),
    path("workers/resume/", inside(workers_views.resume_queue), name="resume_queue"),
    path("workers/revoke/", inside(workers_views.revoke), name="revoke"),
    path("workers/shut-down/", inside(workers_views.shut_down), name="shut_down"),
    path("metrics", views.scrape, name="metrics"),
]
