"""The addresses of this room that are not admin pages."""

from django.contrib import admin
from django.urls import path

from monitoring import views

app_name = "monitoring"
urlpatterns = [
    # Before the admin's own index, in its frame and behind its login.
    path("", admin.site.admin_view(views.dashboard), name="dashboard"),
    path("metrics", views.scrape, name="metrics"),
]
