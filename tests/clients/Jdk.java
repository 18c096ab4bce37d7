import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;

/** The JDK's HttpClient as everybody makes it: it offers HTTP/2. Posts each body, the last one in chunks. */
public class Jdk {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        for (int number = 1; number < arguments.length; number++) {
            byte[] body = arguments[number].getBytes(StandardCharsets.UTF_8);
            var publisher = number < arguments.length - 1
                ? BodyPublishers.ofByteArray(body)
                : BodyPublishers.ofInputStream(() -> new java.io.ByteArrayInputStream(body));
            var request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("Content-Type", "application/json").POST(publisher).build();
            var response = client.send(request, BodyHandlers.ofString(StandardCharsets.UTF_8));
            System.out.println(response.version() + " " + response.statusCode() + " " + response.body().replace("\n", "\\n"));
        }
    }
}
