"""The addresses of this room that are not admin pages."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
