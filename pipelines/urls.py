"""The addresses of this room that are not admin pages."""

from django.urls import path

from pipelines import views

urlpatterns = [
    path("samples/<str:name>", views.sample, name="sample"),
]
