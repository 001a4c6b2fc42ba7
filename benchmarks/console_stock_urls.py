"""The stock admin of django-celery-results, over the same table."""

from django.contrib.admin import AdminSite
from django.urls import path
from django_celery_results.admin import TaskResultAdmin
from django_celery_results.models import TaskResult

stock = AdminSite(name="admin")
stock.register(TaskResult, TaskResultAdmin)
urlpatterns = [path("", stock.urls)]
