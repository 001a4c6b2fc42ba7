"""The console, and beside it the stock admin of django-celery-results over the same table."""

from django.contrib.admin import AdminSite
from django.urls import path
from django_celery_results.admin import TaskResultAdmin
from django_celery_results.models import TaskResult

from config.urls import urlpatterns as ours

stock = AdminSite(name="stock")
stock.register(TaskResult, TaskResultAdmin)
urlpatterns = [path("stock/", stock.urls), *ours]
