"""The same service as one would write it with Django REST framework: a token names the owner, querysets are filtered.

Run by Gunicorn as `drf:application`. One file, so that all of it can be read.
"""

import os

import django
import jwt
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["BENCH_PGHOST"],
            "PORT": os.environ["BENCH_PGPORT"],
            "NAME": os.environ["BENCH_PGDATABASE"],
            "USER": os.environ["BENCH_PGUSER"],
            "PASSWORD": os.environ["BENCH_PGPASSWORD"],
            "CONN_MAX_AGE": None,
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    REST_FRAMEWORK={
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "UNAUTHENTICATED_USER": None,
    },
    ROOT_URLCONF=__name__,
    SECRET_KEY="a benchmark",
    USE_TZ=True,
)
django.setup()

from django.db import models  # noqa: E402
from django.urls import path  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from rest_framework import authentication, exceptions, permissions, serializers, status, viewsets  # noqa: E402
from rest_framework.response import Response  # noqa: E402

SECRET = os.environ["BENCH_SECRET"]


class Owner:
    is_authenticated = True

    def __init__(self, subject):
        self.pk = self.id = subject


class TokenAuthentication(authentication.BaseAuthentication):
    def authenticate(self, request):
        header = request.headers.get("Authorization", "")
        try:
            claims = jwt.decode(header.removeprefix("Bearer "), SECRET, algorithms=["HS256"], audience="authenticated")
        except jwt.InvalidTokenError as error:
            raise exceptions.AuthenticationFailed(str(error)) from error
        return Owner(claims["sub"]), claims


class Base(models.Model):
    class Meta:
        abstract = True
        app_label = "bench"
        managed = False


class Note(Base):
    owner = models.UUIDField()
    title = models.TextField()
    body = models.TextField()
    made = models.DateTimeField()

    class Meta(Base.Meta):
        db_table = "notes"


class Author(Base):
    name = models.TextField()

    class Meta(Base.Meta):
        db_table = "authors"


class Book(Base):
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    title = models.TextField()

    class Meta(Base.Meta):
        db_table = "books"


class Entry(Base):
    owner = models.UUIDField()
    title = models.TextField()
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    made = models.DateTimeField(auto_now_add=True)

    class Meta(Base.Meta):
        db_table = "entries"


class NoteSerializer(serializers.ModelSerializer):
    class Meta:
        model = Note
        fields = ["id", "owner", "title", "body", "made"]


class NoteLineSerializer(serializers.ModelSerializer):
    class Meta:
        model = Note
        fields = ["id", "title", "made"]


class BookSerializer(serializers.ModelSerializer):
    class Meta:
        model = Book
        fields = ["id", "title"]


class AuthorSerializer(serializers.ModelSerializer):
    books = BookSerializer(many=True, read_only=True)

    class Meta:
        model = Author
        fields = ["id", "name", "books"]


class EntryList(serializers.ListSerializer):
    def create(self, rows):
        return Entry.objects.bulk_create([Entry(**row) for row in rows])


class EntrySerializer(serializers.ModelSerializer):
    class Meta:
        model = Entry
        fields = ["id", "title", "amount"]
        list_serializer_class = EntryList


class OfOwner:
    authentication_classes = [TokenAuthentication]
    permission_classes = [permissions.IsAuthenticated]


class Notes(OfOwner, viewsets.ReadOnlyModelViewSet):
    def get_queryset(self):
        return Note.objects.filter(owner=self.request.user.id)

    def get_serializer_class(self):
        return NoteSerializer if self.detail else NoteLineSerializer

    def filter_queryset(self, queryset):
        return queryset if self.detail else queryset.order_by("-made").only("id", "title", "made")[:20]


class Authors(OfOwner, viewsets.ReadOnlyModelViewSet):
    queryset = Author.objects.prefetch_related("books")
    serializer_class = AuthorSerializer


class Entries(OfOwner, viewsets.GenericViewSet):
    serializer_class = EntrySerializer

    def create(self, request):
        serializer = self.get_serializer(data=request.data, many=isinstance(request.data, list))
        serializer.is_valid(raise_exception=True)
        serializer.save(owner=request.user.id)
        return Response(status=status.HTTP_201_CREATED)


urlpatterns = [
    path("notes/", Notes.as_view({"get": "list"}, detail=False)),
    path("notes/<int:pk>/", Notes.as_view({"get": "retrieve"}, detail=True)),
    path("authors/<int:pk>/", Authors.as_view({"get": "retrieve"}, detail=True)),
    path("entries/", Entries.as_view({"post": "create"}, detail=False)),
]
application = get_wsgi_application()
